//! Randomness: the one door to the system's generator.

/// `N` random bytes.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // AWS-LC aborts rather than return without entropy; an error has nothing a caller could do better.
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random generator works");
    bytes
}

/// `N` random bytes as lower-case hex: for holders, request ids, one-time codes.
pub fn hex<const N: usize>() -> String {
    bytes::<N>().iter().map(|byte| format!("{byte:02x}")).collect()
}
