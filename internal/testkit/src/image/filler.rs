//! Bytes that look like content: seeded, streamed, of a chosen compressibility.

use std::io::{self, Read};

/// An endless-looking file of `left` bytes: runs of noise and runs of words in turn, so that it shrinks to about 60 %.
#[derive(Debug)]
pub(super) struct Filler {
    state: u64,
    left: u64,
    block: [u8; 64],
    at: usize,
}

impl Filler {
    pub(super) fn new(seed: u64, length: u64) -> Self {
        Self {
            // xorshift stands still at zero.
            state: seed ^ 0x9E37_79B9_7F4A_7C15 | 1,
            left: length,
            block: [0; 64],
            at: 64,
        }
    }

    /// xorshift64*: no statistics needed, only that neighbours differ.
    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn refill(&mut self) {
        const WORDS: &[u8; 32] = b"the package of a pallet is here ";
        for chunk in 0..4 {
            let noise = self.next();
            let half = &mut self.block[chunk * 16..chunk * 16 + 16];
            if noise & 1 == 0 {
                half[..8].copy_from_slice(&noise.to_le_bytes());
                half[8..].copy_from_slice(&noise.rotate_left(23).wrapping_mul(31).to_le_bytes());
            } else {
                half.copy_from_slice(&WORDS[..16]);
            }
        }
        self.at = 0;
    }
}

impl Read for Filler {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < into.len() && self.left > 0 {
            if self.at == self.block.len() {
                self.refill();
            }
            let left = usize::try_from(self.left).unwrap_or(usize::MAX);
            let n = (self.block.len() - self.at).min(into.len() - written).min(left);
            into[written..written + n].copy_from_slice(&self.block[self.at..self.at + n]);
            self.at += n;
            self.left -= n as u64;
            written += n;
        }
        Ok(written)
    }
}

/// A seed from text (FNV-1a): the same name always gives the same bytes.
pub(super) fn seed(text: &str) -> u64 {
    text.bytes()
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}
