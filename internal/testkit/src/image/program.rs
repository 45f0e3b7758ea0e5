//! The one program that the images of a set have: small enough to be written out here, so that containers really run.

use super::elf;

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

/// The program as an executable file. On other platforms it is a text that names the platform, so that their images
/// differ.
pub(super) fn executable(platform: &str) -> Vec<u8> {
    match platform {
        "linux/amd64" => elf::executable(elf::AMD64, &CODE),
        _ => format!("not a program, for {platform}\n").into_bytes(),
    }
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
