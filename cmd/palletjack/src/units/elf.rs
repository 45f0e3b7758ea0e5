//! Which processor a program is for, by the first bytes of its file (ELF specification, "ELF Header").

use std::fmt;

/// Bytes of a file that [`Machine::of`] wants.
pub(crate) const HEAD: usize = 20;

/// What programs must have in common to run on one system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Machine {
    /// 1: 32 bits, 2: 64 bits.
    class: u8,
    /// 1: the least byte first.
    order: u8,
    number: u16,
}

impl Machine {
    /// `None` for what is no ELF file.
    pub(crate) fn of(head: &[u8]) -> Option<Self> {
        let head: &[u8; HEAD] = head.get(..HEAD)?.try_into().ok()?;
        if !head.starts_with(b"\x7fELF") {
            return None;
        }
        let (class, order) = (head[4], head[5]);
        let number = [head[18], head[19]];
        let number = if order == 1 { u16::from_le_bytes(number) } else { u16::from_be_bytes(number) };
        Some(Self { class, order, number })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            3 => f.write_str("x86 (32 bits)"),
            40 => f.write_str("ARM (32 bits)"),
            62 => f.write_str("x86-64"),
            183 => f.write_str("ARM 64"),
            243 => f.write_str("RISC-V"),
            other => write!(f, "ELF machine {other}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(class: u8, order: u8, machine: u16) -> Vec<u8> {
        let mut head = b"\x7fELF".to_vec();
        head.extend([class, order, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0]);
        head.extend(if order == 1 { machine.to_le_bytes() } else { machine.to_be_bytes() });
        head
    }

    #[test]
    fn programs_of_one_system_agree() {
        let of = |class, order, machine| Machine::of(&head(class, order, machine)).unwrap();
        assert_eq!(of(2, 1, 183).to_string(), "ARM 64");
        assert_eq!(of(2, 2, 22), of(2, 2, 22));
        assert_ne!(of(2, 1, 183), of(1, 1, 40));
        assert_ne!(of(2, 1, 62), of(1, 1, 62), "a program with 32-bit pointers");
        assert_eq!(Machine::of(b"#!/bin/sh\nexec something"), None);
        assert_eq!(Machine::of(b"\x7fELF\x02\x01"), None);
    }
}
