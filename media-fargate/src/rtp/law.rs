//! G.711: the two laws of logarithmic 8-bit audio, to and from 16-bit linear samples, and into each other. Values are
//! computed from the definition (ITU-T G.711 (11/88), tables 1 and 2), scaled to 16 bits;
//! conversion between the laws is the Recommendation's own (tables 3 and 4).

use super::Codec;

/// What µ-law adds to a magnitude before it takes its logarithm, at 16 bits.
const BIAS: i32 = 0x84;
/// The greatest magnitude µ-law can say, at 16 bits.
const MU_CLIP: i32 = 32_635;
/// A-law inverts every other bit on the line.
const A_FLIP: u8 = 0x55;

static MU_TO_LINEAR: [i16; 256] = decoded(Law::Mu);
static A_TO_LINEAR: [i16; 256] = decoded(Law::A);
static MU_TO_A: [u8; 256] = mu_to_a();
static A_TO_MU: [u8; 256] = a_to_mu();

/// ITU-T G.711, table 3: by magnitude of the µ-law value from 0 upwards, the magnitude of the A-law value from 1 upwards.
#[rustfmt::skip]
const MU_A: [u8; 128] = [
    1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8,
    9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,
    25, 27, 29, 31, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44,
    46, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62,
    64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79,
    80, 82, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92, 93, 94, 95, 96,
    97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112,
    113, 114, 115, 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127, 128,
];

/// ITU-T G.711, table 4: by magnitude of the A-law value from 1 upwards, the magnitude of the µ-law value from 0 upwards.
#[rustfmt::skip]
const A_MU: [u8; 128] = [
    1, 3, 5, 7, 9, 11, 13, 15, 16, 17, 18, 19, 20, 21, 22, 23,
    24, 25, 26, 27, 28, 29, 30, 31, 32, 32, 33, 33, 34, 34, 35, 35,
    36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 48, 49, 49,
    50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 64,
    65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80,
    80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92, 93, 94, 95,
    96, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111,
    112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127,
];

/// One of the two laws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// µ-law, RTP's `PCMU`: North America, Japan.
    Mu,
    /// A-law, RTP's `PCMA`: elsewhere.
    A,
}

impl Law {
    /// The law of a codec, if it is G.711.
    pub fn of(codec: Codec) -> Option<Self> {
        match codec {
            Codec::Pcmu => Some(Self::Mu),
            Codec::Pcma => Some(Self::A),
            Codec::Opus => None,
        }
    }

    /// The linear sample that `byte` stands for.
    pub fn decode(self, byte: u8) -> i16 {
        match self {
            Self::Mu => MU_TO_LINEAR[usize::from(byte)],
            Self::A => A_TO_LINEAR[usize::from(byte)],
        }
    }

    /// The byte whose interval holds `sample`.
    pub fn encode(self, sample: i16) -> u8 {
        match self {
            Self::Mu => mu_encode(sample),
            Self::A => a_encode(sample),
        }
    }

    /// The table that brings bytes of this law into `other`; `None`: nothing is to be done.
    pub fn to(self, other: Self) -> Option<&'static [u8; 256]> {
        match (self, other) {
            (Self::Mu, Self::A) => Some(&MU_TO_A),
            (Self::A, Self::Mu) => Some(&A_TO_MU),
            (Self::Mu, Self::Mu) | (Self::A, Self::A) => None,
        }
    }
}

// `as` below: no `From` is const, and every value fits.

/// All bits are inverted on the line; sign, three bits of segment, four of step.
const fn mu_decode(byte: u8) -> i16 {
    let byte = !byte;
    let magnitude = (((byte as i32 & 0x0f) << 3 | BIAS) << ((byte & 0x70) >> 4)) - BIAS;
    (if byte & 0x80 == 0 { magnitude } else { -magnitude }) as i16
}

const fn mu_encode(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = (sample as i32).abs();
    let biased = (if magnitude > MU_CLIP { MU_CLIP } else { magnitude }) + BIAS;
    let segment = biased.ilog2() - 7;
    let step = (biased >> (segment + 3)) & 0x0f;
    !(sign | (segment << 4) as u8 | step as u8)
}

/// A set sign bit means positive. The first two segments have the same step.
const fn a_decode(byte: u8) -> i16 {
    let byte = byte ^ A_FLIP;
    let (segment, step) = ((byte & 0x70) >> 4, (byte as i32 & 0x0f) << 4 | 8);
    let magnitude = if segment == 0 { step } else { (step | 0x100) << (segment - 1) };
    (if byte & 0x80 == 0 { -magnitude } else { magnitude }) as i16
}

const fn a_encode(sample: i16) -> u8 {
    let sign = if sample < 0 { 0 } else { 0x80 };
    // Twelve bits; below zero the intervals are mirrored, so that -1 falls into the first one.
    let magnitude = (if sample < 0 { !sample } else { sample } as u32) >> 4;
    let byte = if magnitude < 0x20 {
        magnitude
    } else {
        let segment = magnitude.ilog2() - 3;
        segment << 4 | (magnitude >> (segment - 1)) & 0x0f
    };
    (sign | byte as u8) ^ A_FLIP
}

const fn decoded(law: Law) -> [i16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = match law {
            Law::Mu => mu_decode(byte as u8),
            Law::A => a_decode(byte as u8),
        };
        byte += 1;
    }
    table
}

const fn mu_to_a() -> [u8; 256] {
    let mut table = [0; 256];
    let mut magnitude = 0;
    while magnitude < MU_A.len() {
        let mu = 0xff - magnitude;
        let a = (0x80 | (MU_A[magnitude] - 1)) ^ A_FLIP;
        table[mu] = a;
        table[mu ^ 0x80] = a ^ 0x80;
        magnitude += 1;
    }
    table
}

const fn a_to_mu() -> [u8; 256] {
    let mut table = [0; 256];
    let mut magnitude = 0;
    while magnitude < A_MU.len() {
        let a = (0x80 | magnitude) ^ A_FLIP as usize;
        let mu = 0xff - A_MU[magnitude];
        table[a] = mu;
        table[a ^ 0x80] = mu ^ 0x80;
        magnitude += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LAWS: [Law; 2] = [Law::Mu, Law::A];

    /// Columns: law, byte on the line, value. The ends of every segment of positive values, after ITU-T G.711, tables 1a
    /// and 2a, times 4 (µ-law has 14 bits there) and times 8 (A-law has 13).
    #[test]
    fn values_of_the_recommendation() {
        let mu = [8_031, 4_191, 3_999, 2_079, 1_983, 1_023, 975, 495, 471, 231, 219, 99, 93, 33, 30, 0];
        for (pair, values) in mu.chunks(2).enumerate() {
            let segment = 7 - pair as u8;
            for (step, value) in [(15, values[0]), (0, values[1])] {
                let byte = !(segment << 4 | step);
                assert_eq!(Law::Mu.decode(byte), value * 4, "µ {byte:#x}");
                assert_eq!(Law::Mu.decode(byte & 0x7f), value * -4, "µ {byte:#x}");
            }
        }
        let a = [4_032, 2_112, 2_016, 1_056, 1_008, 528, 504, 264, 252, 132, 126, 66, 63, 33, 31, 1];
        for (pair, values) in a.chunks(2).enumerate() {
            let segment = 7 - pair as u8;
            for (step, value) in [(15, values[0]), (0, values[1])] {
                let byte = (0x80 | segment << 4 | step) ^ A_FLIP;
                assert_eq!(Law::A.decode(byte), value * 8, "A {byte:#x}");
                assert_eq!(Law::A.decode(byte ^ 0x80), value * -8, "A {byte:#x}");
            }
        }
        assert_eq!((Law::Mu.encode(0), Law::A.encode(0)), (0xff, 0xd5), "silence");
        assert_eq!((Law::Mu.encode(i16::MAX), Law::A.encode(i16::MAX)), (0x80, 0xaa));
        assert_eq!((Law::Mu.encode(i16::MIN), Law::A.encode(i16::MIN)), (0x00, 0x2a));
    }

    #[test]
    fn every_byte_is_the_best_for_its_own_value() {
        for (law, byte) in LAWS.into_iter().flat_map(|law| (0..=255).map(move |byte| (law, byte))) {
            let again = law.encode(law.decode(byte));
            // µ-law has two zeros.
            let zero = law == Law::Mu && byte == 0x7f;
            assert_eq!(again, if zero { 0xff } else { byte }, "{law:?} {byte:#x}");
        }
    }

    /// The tables were written down, the values are computed: they must agree to a step, and keep sign and order.
    #[test]
    fn conversion_finds_a_neighbour() {
        for (from, to) in [(Law::Mu, Law::A), (Law::A, Law::Mu)] {
            let table = from.to(to).expect("different laws");
            let mut values: Vec<(i16, i16)> =
                (0..=255u8).map(|byte| (from.decode(byte), to.decode(table[usize::from(byte)]))).collect();
            values.sort_unstable();
            assert!(values.is_sorted_by_key(|(_, converted)| *converted), "{from:?}");
            for (value, converted) in values {
                let (value, converted) = (i32::from(value), i32::from(converted));
                // The step of A-law at this magnitude; 16 is its smallest.
                let step = (value.abs() / 16).max(16);
                assert!((value - converted).abs() <= step, "{from:?} {value} {converted}");
                assert!(value * converted >= 0, "{from:?} {value} {converted}");
            }
        }
        assert_eq!((MU_TO_A[0xff], A_TO_MU[0xd5]), (0xd5, 0xfe), "silence");
        assert_eq!(Law::Mu.to(Law::Mu), None);
    }

    #[test]
    fn converting_again_and_again_loses_nothing_more() {
        for byte in 0..=255u8 {
            let a = MU_TO_A[usize::from(byte)];
            assert_eq!(MU_TO_A[usize::from(A_TO_MU[usize::from(a)])], a, "µ {byte:#x}");
            let mu = A_TO_MU[usize::from(byte)];
            assert_eq!(A_TO_MU[usize::from(MU_TO_A[usize::from(mu)])], mu, "A {byte:#x}");
        }
    }

    proptest! {
        #[test]
        fn samples_keep_sign_size_and_order(a: i16, b: i16) {
            for law in LAWS {
                let (near_a, near_b) = (law.decode(law.encode(a)), law.decode(law.encode(b)));
                // Half a step, which is at most a thirty-second of the magnitude, or half the smallest step.
                let error = (i32::from(near_a) - i32::from(a)).abs();
                prop_assert!(error <= i32::from(a).abs() / 32 + 16 || a.unsigned_abs() > 32_124, "{:?} {} {}", law, a, near_a);
                prop_assert!(a > b || near_a <= near_b, "{:?} {} {}", law, a, b);
            }
        }
    }
}
