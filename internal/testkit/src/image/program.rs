//! The one program that the images of a set have: small enough to be written out here, so that containers really run.

/// Its machine code for x86-64 Linux, which is all that images are run on here:
///
/// ```text
///         mov   eax, 1                  ; write(1, said, 8)
///         mov   edi, 1
///         lea   rsi, [rip + said]
///         mov   edx, 8
///         syscall
///         cmp   qword ptr [rsp], 2      ; without an argument: exit(0)
///         jl    leave
///         mov   rdi, [rsp + 16]
///         cmp   dword ptr [rdi], "stay"
///         jne   leave
///   wait: mov   eax, 34                 ; pause(), until somebody kills it
///         syscall
///         jmp   wait
///  leave: mov   eax, 60                 ; exit(0)
///         xor   edi, edi
///         syscall
///   said: "it runs\n"
/// ```
const CODE: [u8; 70] = [
    0xb8, 0x01, 0x00, 0x00, 0x00, 0xbf, 0x01, 0x00, 0x00, 0x00, 0x48, 0x8d, 0x35, 0x2d, 0x00, 0x00, 0x00,
    0xba, 0x08, 0x00, 0x00, 0x00, 0x0f, 0x05, 0x48, 0x83, 0x3c, 0x24, 0x02, 0x7c, 0x16, 0x48, 0x8b, 0x7c,
    0x24, 0x10, 0x81, 0x3f, 0x73, 0x74, 0x61, 0x79, 0x75, 0x09, 0xb8, 0x22, 0x00, 0x00, 0x00, 0x0f, 0x05,
    0xeb, 0xf7, 0xb8, 0x3c, 0x00, 0x00, 0x00, 0x31, 0xff, 0x0f, 0x05, 0x69, 0x74, 0x20, 0x72, 0x75, 0x6e,
    0x73, 0x0a,
];

/// Where it is in an image.
pub(super) const PATH: &str = "bin/tool";

/// The argument with which it stays until it is killed, as a service does.
pub(super) const STAY: &str = "stay";

const HEADERS: usize = 64 + 56;
const ADDRESS: u64 = 0x40_0000;

/// The program as an executable file: an ELF header, one loadable segment, the code (ELF-64 object file format, 1.5).
/// On other platforms it is a text that names the platform, so that their images differ.
pub(super) fn executable(platform: &str) -> Vec<u8> {
    if platform != "linux/amd64" {
        return format!("not a program, for {platform}\n").into_bytes();
    }
    let size = (HEADERS + CODE.len()) as u64;
    let entry = ADDRESS + HEADERS as u64;
    let mut file = Vec::with_capacity(HEADERS + CODE.len());
    // 64 bits, little endian, version 1, System V; an executable for x86-64, version 1.
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0");
    // Entry point; the program header follows this one; no section headers; no flags.
    for word in [entry, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend([0; 4]);
    // Sizes and numbers of headers.
    for half in [64u16, 56, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    // One segment to load, readable and executable: the whole file.
    file.extend(b"\x01\0\0\0\x05\0\0\0");
    for word in [0, ADDRESS, ADDRESS, size, size, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(CODE);
    file
}

#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn it_runs_and_stays_when_it_is_told_to() {
        let directory = tempfile::tempdir().unwrap();
        let [source, path] = ["source", "tool"].map(|name| directory.path().join(name));
        std::fs::write(&source, executable("linux/amd64")).unwrap();
        // By another process: a file that a child of another thread still has open for writing is not executed.
        assert!(Command::new("install").arg(&source).arg(&path).status().unwrap().success());
        for args in [&[][..], &["--any"], &["sh", "-c", "stay"]] {
            let output = Command::new(&path).args(args).output().unwrap();
            assert!(output.status.success(), "{args:?}: {}", output.status);
            assert_eq!(output.stdout, b"it runs\n", "{args:?}");
        }
        let mut child = Command::new(&path).arg(STAY).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = [0; 8];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().code(), None, "a signal ended it");
    }
}
