//! Short forms of ports and volumes.

use super::words::is_ip;

/// A volume such as `data:/var/lib/data:ro`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Volume {
    /// A bind mount, not a named or anonymous volume.
    pub(super) is_bind: bool,
    pub(super) source: String,
    pub(super) target: String,
}

/// Parses a volume. A one-letter name before `:` is taken for a Windows drive.
pub(super) fn parse_volume(spec: &str) -> Result<Volume, String> {
    if spec.is_empty() {
        return Err("an empty volume".into());
    }
    let mut volume = Volume::default();
    if spec.len() <= 2 {
        spec.clone_into(&mut volume.target);
        return Ok(volume);
    }
    let (mut part, mut letters, mut variable) = (String::new(), 0usize, 0usize);
    let mut chars = spec.chars().peekable();
    loop {
        let c = chars.next();
        match c {
            Some('$') if chars.peek() == Some(&'{') => variable += 1,
            Some('}') if variable > 0 => variable -= 1,
            Some(':') if letters == 1 && part.chars().all(char::is_alphabetic) => {}
            Some(':') | None if variable == 0 => {
                if part.is_empty() {
                    return Err(format!("volume {spec:?} has an empty part"));
                }
                let part = std::mem::take(&mut part);
                letters = 0;
                if volume.source.is_empty() {
                    if c.is_none() {
                        volume.target = part;
                    } else {
                        volume.source = part;
                    }
                } else if volume.target.is_empty() {
                    volume.target = part;
                } else if c.is_some() {
                    return Err(format!("volume {spec:?} has too many colons"));
                }
                if c.is_none() {
                    break;
                }
                continue;
            }
            None => break,
            Some(_) => {}
        }
        part.extend(c);
        letters += 1;
    }
    let drive = |s: &str| {
        let mut chars = s.chars();
        chars.next().is_some_and(char::is_alphabetic) && chars.next() == Some(':')
    };
    let source = &*volume.source;
    volume.is_bind = source.starts_with(['.', '/', '~']) || source.starts_with("\\\\") || drive(source);
    Ok(volume)
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) host_ip: String,
    pub(super) target: u16,
    /// A port or range; empty if none is given.
    pub(super) published: String,
    pub(super) protocol: String,
}

/// Parses a port such as `127.0.0.1:8080-8081:80-81/udp` into one entry per container port.
pub(super) fn parse_ports(spec: &str) -> Result<Vec<Port>, String> {
    let wrong = |what: &str| format!("port {spec:?}: {what}");
    let (front, container) = spec.rsplit_once(':').unwrap_or(("", spec));
    let (ip, host) = front.rsplit_once(':').unwrap_or(("", front));
    let (container, protocol) = container.split_once('/').unwrap_or((container, ""));
    let protocol = match &*protocol.to_ascii_lowercase() {
        "" => "tcp".to_owned(),
        known @ ("tcp" | "udp" | "sctp") => known.to_owned(),
        _ => return Err(wrong("the protocol must be tcp, udp or sctp")),
    };
    if container.is_empty() {
        return Err(wrong("the container's port is missing"));
    }
    let ip = match ip.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or_else(|| wrong("the address isn't valid"))?,
        None => ip,
    };
    if !ip.is_empty() && !is_ip(ip) {
        return Err(wrong("the address isn't valid"));
    }
    let (low, high) = port_range(container).ok_or_else(|| wrong("ports are numbers from 0 to 65535"))?;
    let host = match host {
        "" => None,
        range => Some(port_range(range).ok_or_else(|| wrong("ports are numbers from 0 to 65535"))?),
    };
    if let Some((first, last)) = host
        && low != high
        && high - low != last - first
    {
        return Err(wrong("the two ranges have different lengths"));
    }
    let ports = (low..=high).map(|target| Port {
        host_ip: ip.to_owned(),
        target,
        published: match host {
            None => String::new(),
            Some((first, last)) if low == high && first != last => format!("{first}-{last}"),
            Some((first, _)) => (u32::from(first) + u32::from(target - low)).to_string(),
        },
        protocol: protocol.clone(),
    });
    Ok(ports.collect())
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten()
    };
    let mut parts = text.split('-');
    let low = number(parts.next()?)?;
    let high = match parts.next() {
        Some(high) => number(high)?,
        None => low,
    };
    (low <= high).then_some((low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes() {
        for (spec, bind, source, target) in [
            ("/data", false, "", "/data"),
            ("data:/var", false, "data", "/var"),
            ("./a:/b:ro", true, "./a", "/b"),
            ("~/a:/b", true, "~/a", "/b"),
            ("v:/v", false, "", "v:/v"),
            ("C:\\a:/b", true, "C:\\a", "/b"),
            ("${A:-b}:/c", false, "${A:-b}", "/c"),
        ] {
            let volume = parse_volume(spec).unwrap();
            let got = (volume.is_bind, &*volume.source, &*volume.target);
            assert_eq!(got, (bind, source, target), "{spec}");
        }
        for bad in ["", "aa::b", ":ab", "aa:bb:cc:dd", "data:"] {
            assert!(parse_volume(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports() {
        for (spec, count) in [
            ("80", 1),
            ("8080:80", 1),
            ("8000-8010:80", 1),
            ("3000-3005", 6),
            ("9090-9091:8080-8081/udp", 2),
            ("127.0.0.1:80:80", 1),
            ("[::1]:80:80", 1),
            ("::1:80:80", 1),
        ] {
            assert_eq!(parse_ports(spec).map(|p| p.len()), Ok(count), "{spec}");
        }
        for bad in ["", "a", "70000", "80:", "1-2:3-5", "5-4", "80/icmp", "host:80:80", "[::1:80:80"] {
            assert!(parse_ports(bad).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,30}", portish in "[0-9:./\\-\\[\\]a-c]{0,20}") {
            let _ = (parse_volume(&text), parse_ports(&text));
            let _ = (parse_volume(&portish), parse_ports(&portish));
        }
    }
}
