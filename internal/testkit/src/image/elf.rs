//! Executable files of one segment (ELF-64 object file format).

/// x86-64, as `e_machine` names it.
pub(super) const AMD64: u16 = 62;
/// `AArch64`.
pub(super) const ARM64: u16 = 183;

/// Where the program stands in memory: any page that Linux maps for programs.
const BASE: u64 = 0x40_0000;
const ELF_HEADER: u16 = 64;
const PROGRAM_HEADER: u16 = 56;
const CODE: u64 = (ELF_HEADER + PROGRAM_HEADER) as u64;

/// A static Linux program that begins with the first byte of this code. It has no stack or data of its own.
pub(super) fn executable(machine: u16, code: &[u8]) -> Vec<u8> {
    // 64 bits, little-endian, version 1, no particular system; an executable file.
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend(2_u16.to_le_bytes());
    file.extend(machine.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    // Entry point; the program header follows this one; no sections.
    for word in [BASE + CODE, u64::from(ELF_HEADER), 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for half in [ELF_HEADER, PROGRAM_HEADER, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    let length = CODE + code.len() as u64;
    // The whole file, readable and executable.
    file.extend(1_u32.to_le_bytes());
    file.extend(5_u32.to_le_bytes());
    for word in [0, BASE, BASE, length, length, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}
