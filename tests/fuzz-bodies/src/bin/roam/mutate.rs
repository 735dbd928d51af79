//! Mutation of inputs. In: a seed and known inputs. Out: new inputs, the same for the same seed. Deliberately absent:
//! the meaning of an input.

/// Maximum length of an input, as for libFuzzer.
pub(crate) const LONGEST: usize = 4096;

/// Maximum number of changes per input.
const CHANGES: usize = 8;

/// Boundary values.
const EDGES: [&[u8]; 8] =
    [&[0], &[1], &[0x7f], &[0x80], &[0xff], &[0, 0], &[0xff, 0xff], &[0x7f, 0xff, 0xff, 0xff]];

/// Pseudo-random numbers that depend on the seed alone (SplitMix64).
#[derive(Debug)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`; 0 if `limit` is 0.
    pub(crate) fn roll(&mut self, limit: usize) -> usize {
        (self.next() % (limit.max(1) as u64)) as usize
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }
}

/// A mutation of one known input, or a combination of two.
pub(crate) fn mutated(rng: &mut Rng, known: &[Vec<u8>]) -> Vec<u8> {
    let mut input = pick(rng, known).to_vec();
    for _ in 0..=rng.roll(CHANGES) {
        change(rng, &mut input, known);
    }
    input.truncate(LONGEST);
    input
}

fn pick<'a>(rng: &mut Rng, known: &'a [Vec<u8>]) -> &'a [u8] {
    known.get(rng.roll(known.len())).map_or(&[], Vec::as_slice)
}

/// A part of an input, mostly a short one, because operations are short.
fn part(rng: &mut Rng, length: usize) -> std::ops::Range<usize> {
    let from = rng.roll(length + 1);
    let most = if rng.roll(4) == 0 { length - from } else { (length - from).min(12) };
    from..from + rng.roll(most + 1)
}

fn change(rng: &mut Rng, input: &mut Vec<u8>, known: &[Vec<u8>]) {
    let at = rng.roll(input.len());
    match rng.roll(9) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << rng.roll(8);
            }
        }
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = rng.byte();
            }
        }
        2 => {
            let count = rng.roll(6) + 1;
            let bytes: Vec<u8> = (0..count).map(|_| rng.byte()).collect();
            input.splice(at..at, bytes);
        }
        3 => {
            let edge = EDGES[rng.roll(EDGES.len())];
            let end = input.len().min(at + edge.len());
            input.splice(at..end, edge.iter().copied());
        }
        4 => {
            let gone = part(rng, input.len());
            input.drain(gone);
        }
        // Repeats a part, at its place or elsewhere.
        5 | 6 => {
            let again = input[part(rng, input.len())].to_vec();
            input.splice(at..at, again);
        }
        // Inserts a part of another input.
        7 => {
            let other = pick(rng, known);
            let other = other[part(rng, other.len())].to_vec();
            input.splice(at..at, other);
        }
        // The beginning of this input and the end of another.
        _ => {
            let other = pick(rng, known);
            input.truncate(at);
            input.extend_from_slice(&other[rng.roll(other.len())..]);
        }
    }
    input.truncate(LONGEST);
}

/// Minimises an input that fails, within a number of runs.
pub(crate) fn least(
    mut input: Vec<u8>,
    mut runs: usize,
    mut fails: impl FnMut(&[u8]) -> bool,
) -> Vec<u8> {
    let mut size = input.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < input.len() && runs > 0 {
            let end = input.len().min(at + size);
            let shorter = [&input[..at], &input[end..]].concat();
            runs -= 1;
            if fails(&shorter) {
                input = shorter;
            } else {
                at = end;
            }
        }
        size /= 2;
    }
    input
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: how inputs are made.
    use super::*;

    #[test]
    fn a_seed_gives_the_same_inputs_and_another_seed_others() {
        let known = [b"some words".to_vec(), b"and others".to_vec(), Vec::new()];
        let inputs = |seed| -> Vec<_> {
            let mut rng = Rng(seed);
            (0..500).map(|_| mutated(&mut rng, &known)).collect()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        assert!(inputs(1).iter().all(|input| input.len() <= LONGEST));
        // Without known inputs new ones are invented.
        let mut rng = Rng(1);
        assert!((0..100).any(|_| !mutated(&mut rng, &[]).is_empty()));
    }

    #[test]
    fn the_smallest_failing_input_is_found() {
        let fails = |input: &[u8]| input.contains(&7) && input.contains(&9);
        let input: Vec<u8> = (0..200).collect();
        assert_eq!(least(input.clone(), 2_000, fails), [7, 9]);
        // With few runs the result still fails, but need not be minimal.
        assert!(fails(&least(input, 3, fails)));
    }
}
