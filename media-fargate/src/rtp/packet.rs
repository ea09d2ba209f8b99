//! RTP packets (RFC 3550, section 5.1).

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes of the fixed header.
const HEADER: usize = 12;
const VERSION: u8 = 2;

/// One RTP packet: what is passed on. Contributing sources, header extensions and padding belong to the leg they came
/// from; they are understood and left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What the payload is; 7 bits.
    pub payload_type: u8,
    /// Of audio: the first packet after silence. Of telephone events: the first packet of an event.
    pub marker: bool,
    /// Counts packets, modulo 2^16.
    pub sequence: u16,
    /// When the first sample was taken, in ticks of the codec's clock, modulo 2^32.
    pub timestamp: u32,
    /// The stream it belongs to.
    pub ssrc: u32,
    /// The audio.
    pub payload: Bytes,
}

/// Why bytes are no RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Shorter than its header, extension or padding says.
    #[error("the packet is cut off")]
    Short,
    /// Not version 2.
    #[error("the packet is not of RTP version 2")]
    Version,
    /// An RTCP packet (RFC 5761, section 4).
    #[error("the packet is RTCP")]
    Rtcp,
}

impl Packet {
    /// Reads a packet; the payload shares the memory of `bytes`.
    ///
    /// # Errors
    /// When it is no RTP packet.
    pub fn parse(bytes: Bytes) -> Result<Self, Malformed> {
        let header: &[u8; HEADER] = bytes.first_chunk().ok_or(Malformed::Short)?;
        let [first, second, sequence @ .., _, _, _, _, _, _, _, _] = *header;
        if first >> 6 != VERSION {
            return Err(Malformed::Version);
        }
        if (192..=223).contains(&second) {
            return Err(Malformed::Rtcp);
        }
        let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let mut start = HEADER + 4 * usize::from(first & 0x0f);
        if first & 0x10 != 0 {
            // Two bytes that name the extension, two that count its words.
            let length = bytes.get(start + 2..start + 4).ok_or(Malformed::Short)?;
            start += 4 + 4 * usize::from(u16::from_be_bytes([length[0], length[1]]));
        }
        let padding = match (first & 0x20 != 0, bytes.last()) {
            (true, Some(&padding)) if padding > 0 => usize::from(padding),
            (true, _) => return Err(Malformed::Short),
            (false, _) => 0,
        };
        let end = bytes.len().checked_sub(padding).filter(|end| *end >= start).ok_or(Malformed::Short)?;
        Ok(Self {
            payload_type: second & 0x7f,
            marker: second & 0x80 != 0,
            sequence: u16::from_be_bytes(sequence),
            timestamp: word(4),
            ssrc: word(8),
            payload: bytes.slice(start..end),
        })
    }

    /// The packet's bytes: the fixed header and the payload.
    pub fn write(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HEADER + self.payload.len());
        bytes.put_u8(VERSION << 6);
        bytes.put_u8(u8::from(self.marker) << 7 | self.payload_type & 0x7f);
        bytes.put_u16(self.sequence);
        bytes.put_u32(self.timestamp);
        bytes.put_u32(self.ssrc);
        bytes.put_slice(&self.payload);
        bytes.freeze()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(head: &[u8], tail: &[u8]) -> Bytes {
        [head, &[0, 1, 0, 0, 0, 2, 0, 0, 0, 3], tail].concat().into()
    }

    #[test]
    fn what_is_read() {
        let plain = Packet {
            payload_type: 8,
            marker: true,
            sequence: 1,
            timestamp: 2,
            ssrc: 3,
            payload: Bytes::from_static(b"ab"),
        };
        for (head, tail, what) in [
            ([0x80, 0x88], &b"ab"[..], "the fixed header"),
            ([0x82, 0x88], b"CSRCCSRCab", "two contributing sources"),
            ([0x90, 0x88], b"\xbe\xde\0\x01EXT.ab", "an extension of one word"),
            ([0x90, 0x88], b"\xbe\xde\0\0ab", "an empty extension"),
            ([0xa0, 0x88], b"ab\0\0\x03", "three bytes of padding"),
            ([0xb1, 0x88], b"CSRC\0\0\0\x01EXT.ab\x01", "everything"),
        ] {
            assert_eq!(Packet::parse(bytes(&head, tail)), Ok(plain.clone()), "{what}");
        }
        let empty = Packet { payload: Bytes::new(), ..plain };
        assert_eq!(Packet::parse(bytes(&[0x80, 0x88], b"")), Ok(empty.clone()));
        assert_eq!(Packet::parse(bytes(&[0xa0, 0x88], b"\0\x02")), Ok(empty), "nothing but padding");
    }

    #[test]
    fn what_is_refused() {
        for (head, tail, why) in [
            ([0x00, 0x00], &b"ab"[..], Malformed::Version),
            ([0xc0, 0x00], b"ab", Malformed::Version),
            ([0x80, 200], b"ab", Malformed::Rtcp),
            ([0x81, 0x00], b"ab", Malformed::Short),
            ([0x8f, 0x00], b"ab", Malformed::Short),
            ([0x90, 0x00], b"\xbe\xde\0", Malformed::Short),
            ([0x90, 0x00], b"\xbe\xde\xff\xffab", Malformed::Short),
            ([0xa0, 0x00], b"a\0", Malformed::Short),
            ([0xa0, 0x00], b"a\x03", Malformed::Short),
            ([0xb0, 0x00], b"\xbe\xde\0\0\x05", Malformed::Short),
        ] {
            assert_eq!(Packet::parse(bytes(&head, tail)), Err(why), "{head:x?} {tail:x?}");
        }
        for length in 0..HEADER {
            assert_eq!(Packet::parse(vec![0x80; length].into()), Err(Malformed::Short));
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(first: u8, bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let whole: Bytes = [&[first][..], &bytes].concat().into();
            if let Ok(packet) = Packet::parse(whole.clone()) {
                prop_assert!(packet.payload.len() + HEADER <= whole.len());
                prop_assert_eq!(Packet::parse(packet.write()), Ok(packet));
            }
        }

        #[test]
        fn what_is_written_can_be_read(
            payload_type in (0..128u8).prop_filter("not RTCP", |pt| !(64..96).contains(pt)),
            marker: bool, sequence: u16, timestamp: u32, ssrc: u32, payload: Vec<u8>,
        ) {
            let packet = Packet { payload_type, marker, sequence, timestamp, ssrc, payload: payload.into() };
            prop_assert_eq!(Packet::parse(packet.write()), Ok(packet));
        }
    }
}
