//! A program small enough for any image: a static ELF file of some two hundred bytes that prints a file.

use super::elf::{AMD64, ARM64, executable};

/// A Linux program for this architecture (`amd64` or `arm64`, as platforms name them) that prints the first 4 KiB of
/// the file at this absolute path and exits with 0, or with 1 where it can read nothing of it. `None` for other architectures.
///
/// What it prints tells which image runs and that two layers are whole, where file and program are in different ones.
pub fn printer(architecture: &str, path: &str) -> Option<Vec<u8>> {
    let (machine, mut code) = match architecture {
        "amd64" => (AMD64, amd64()),
        "arm64" => (ARM64, arm64()),
        _ => return None,
    };
    code.extend(path.as_bytes());
    code.push(0);
    Some(executable(machine, &code))
}

/// `open`, `read`, `write`, `exit`; the path follows the last instruction.
fn amd64() -> Vec<u8> {
    let before_path: &[u8] = &[
        0x31, 0xF6, // xor esi, esi          O_RDONLY
        0xB8, 0x02, 0x00, 0x00, 0x00, // mov eax, 2            open
        0x0F, 0x05, // syscall
        0x89, 0xC7, // mov edi, eax
        0x48, 0x81, 0xEC, 0x00, 0x10, 0x00, 0x00, // sub rsp, 4096
        0x48, 0x89, 0xE6, // mov rsi, rsp
        0xBA, 0x00, 0x10, 0x00, 0x00, // mov edx, 4096
        0x31, 0xC0, // xor eax, eax          read
        0x0F, 0x05, // syscall
        0x89, 0xC3, // mov ebx, eax          how many, or an error's number below zero
        0x89, 0xDA, // mov edx, ebx
        0xC1, 0xFA, 0x1F, // sar edx, 31
        0xF7, 0xD2, // not edx
        0x21, 0xDA, // and edx, ebx          not less than none
        0xBF, 0x01, 0x00, 0x00, 0x00, // mov edi, 1
        0xB8, 0x01, 0x00, 0x00, 0x00, // mov eax, 1            write
        0x0F, 0x05, // syscall
        0xFF, 0xCB, // dec ebx
        0xC1, 0xEB, 0x1F, // shr ebx, 31
        0x89, 0xDF, // mov edi, ebx
        0xB8, 0x3C, 0x00, 0x00, 0x00, // mov eax, 60           exit
        0x0F, 0x05, // syscall
    ];
    // lea rdi, [rip + distance to the path]
    let mut code = vec![0x48, 0x8D, 0x3D];
    code.extend(u32::try_from(before_path.len()).unwrap_or_default().to_le_bytes());
    code.extend(before_path);
    code
}

/// `openat`, `read`, `write`, `exit`; the path follows the last instruction.
fn arm64() -> Vec<u8> {
    const SVC: u32 = 0xD400_0001;
    /// `movz xN, #value`
    const fn mov(register: u32, value: u32) -> u32 {
        0xD280_0000 | value << 5 | register
    }
    /// `mov xN, xM`
    const fn copy(to: u32, from: u32) -> u32 {
        0xAA00_03E0 | from << 16 | to
    }
    /// `mov xN, sp`
    const fn stack(to: u32) -> u32 {
        0x9100_03E0 | to
    }
    let before_path = [
        mov(0, 0),  // the directory, of which an absolute path makes no use
        mov(2, 0),  // O_RDONLY
        mov(8, 56), // openat
        SVC,
        0xD140_07FF, // sub sp, sp, #4096
        stack(1),
        mov(2, 4096),
        mov(8, 63), // read
        SVC,
        copy(19, 0), // how many, or an error's number below zero
        0x8AB3_FE62, // bic x2, x19, x19, asr #63: not less than none
        stack(1),
        mov(0, 1),
        mov(8, 64), // write
        SVC,
        0xD100_0673, // sub x19, x19, #1
        0xD37F_FE60, // lsr x0, x19, #63
        mov(8, 93),  // exit
        SVC,
    ];
    // adr x1, path: the distance in bytes from this instruction, its two lowest bits apart (they are zero).
    let distance = u32::try_from(before_path.len() + 1).unwrap_or_default();
    let first = 0x1000_0001 | distance << 5;
    std::iter::once(first).chain(before_path).flat_map(u32::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    #[test]
    fn it_prints_the_file_on_this_machine() {
        let architecture = palletjack_image::Platform::host().architecture;
        let directory = tempfile::tempdir().unwrap();
        let [text, bytes, program] = ["text", "bytes", "program"].map(|name| directory.path().join(name));
        let made = printer(&architecture, text.to_str().unwrap());
        let Some(made) = made else {
            assert!(!["amd64", "arm64"].contains(&architecture.as_str()));
            return;
        };
        fs::write(&text, "which image\n").unwrap();
        fs::write(&bytes, made).unwrap();
        // By another process: while one of this process's threads forks, a file that is open for writing here cannot be run.
        let copied = Command::new("install").arg("--mode=755").args([&bytes, &program]).status().unwrap();
        assert!(copied.success());
        let output = Command::new(&program).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(output.stdout, b"which image\n");
        fs::remove_file(&text).unwrap();
        let output = Command::new(&program).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    }

    #[test]
    fn other_architectures_have_no_code_here() {
        assert!(printer("riscv64", "/text").is_none());
        for architecture in ["amd64", "arm64"] {
            let bytes = printer(architecture, "/text").unwrap();
            assert!(bytes.starts_with(b"\x7fELF") && bytes.ends_with(b"/text\0"));
        }
    }
}
