//! What a program runs on, from the first bytes of its file (the ELF specification, "ELF Header").

use std::io::Read;

use palletjack_image::Platform;

const MAGIC: &[u8] = b"\x7fELF";
const MACHINE: usize = 18;

/// `None` for what is no ELF file, and for processors that no image is made for.
pub(super) fn platform(mut file: impl Read) -> Option<Platform> {
    let mut head = [0; MACHINE + 2];
    file.read_exact(&mut head).ok()?;
    if !head.starts_with(MAGIC) {
        return None;
    }
    let is_little = head[5] == 1;
    let machine = [head[MACHINE], head[MACHINE + 1]];
    let machine = if is_little { u16::from_le_bytes(machine) } else { u16::from_be_bytes(machine) };
    let (architecture, variant) = match (machine, is_little) {
        (3, _) => ("386", None),
        // Which ARM it is stands in a section that programs may lack; Debian's armhf, and what runs Docker, is v7.
        (40, true) => ("arm", Some("v7")),
        (62, _) => ("amd64", None),
        (183, true) => ("arm64", None),
        (243, _) => ("riscv64", None),
        (21, true) => ("ppc64le", None),
        (22, _) => ("s390x", None),
        (258, _) => ("loong64", None),
        (8, true) => ("mips64le", None),
        _ => return None,
    };
    Some(Platform::new("linux", architecture, variant))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(machine: u16, order: u8) -> Vec<u8> {
        let mut head = b"\x7fELF\x02".to_vec();
        head.extend([order, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0]);
        head.extend(if order == 1 { machine.to_le_bytes() } else { machine.to_be_bytes() });
        head
    }

    #[test]
    fn the_processor_is_told() {
        for (machine, order, want) in [
            (62, 1, Some("linux/amd64")),
            (183, 1, Some("linux/arm64")),
            (40, 1, Some("linux/arm/v7")),
            (3, 1, Some("linux/386")),
            (22, 2, Some("linux/s390x")),
            (21, 2, None),
            (9999, 1, None),
        ] {
            let told = platform(&head(machine, order)[..]).map(|platform| platform.to_string());
            assert_eq!(told.as_deref(), want, "{machine}");
        }
        assert_eq!(platform(&b"#!/bin/sh\nexec something\n"[..]), None);
        assert_eq!(platform(&b"\x7fELF"[..]), None);
        let here = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(platform(here), Some(Platform::host()));
    }
}
