//! What a run leaves to chance.

/// Choices, from bytes that a property test draws: so that they shrink.
#[derive(Debug, Clone)]
pub(super) struct Dice {
    bytes: Vec<u8>,
    next: usize,
}

impl Dice {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Dice { bytes: bytes.to_vec(), next: 0 }
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        let byte = self.bytes[self.next % self.bytes.len()];
        // The second time round the same bytes mean something else.
        let turn = self.next / self.bytes.len();
        self.next += 1;
        (usize::from(byte) + turn) % limit
    }
}
