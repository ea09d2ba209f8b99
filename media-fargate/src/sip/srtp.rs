//! Packets protected by keys that stood in the descriptions (SDES, RFC 4568): sealed with our key, opened with theirs.

use bytes::Bytes;
use rtc::srtp::{
    context::Context,
    option::{srtcp_replay_protection, srtp_replay_protection},
    protection_profile::ProtectionProfile,
};

use super::sdp::{Crypto, Suite};

/// Packets that may overtake each other; an older one counts as replayed.
const REPLAY_WINDOW: usize = 128;

/// Both directions of a leg. Without a context nothing passes: a packet is never sent, nor heard, unprotected.
pub struct Protection {
    ours: Crypto,
    theirs: Crypto,
    seal: Option<Context>,
    open: Option<Context>,
}

impl Protection {
    /// Of our key and theirs.
    pub fn new(ours: &Crypto, theirs: &Crypto) -> Self {
        Self { ours: ours.clone(), theirs: theirs.clone(), seal: context(ours), open: context(theirs) }
    }

    /// With the keys of a new description. A key that stays keeps its context: it counts the packets (RFC 3711, section
    /// 3.3.1), and a repeat stays one.
    pub fn renewed(self, ours: &Crypto, theirs: &Crypto) -> Self {
        let stays = |before: &Crypto, now: &Crypto| before.suite == now.suite && before.key == now.key;
        let seal = if stays(&self.ours, ours) { self.seal } else { context(ours) };
        let open = if stays(&self.theirs, theirs) { self.open } else { context(theirs) };
        Self { ours: ours.clone(), theirs: theirs.clone(), seal, open }
    }

    /// Protects a packet of RTP.
    pub fn seal_rtp(&mut self, packet: &[u8]) -> Option<Bytes> {
        Some(self.seal.as_mut()?.encrypt_rtp(packet).ok()?.freeze())
    }

    /// Opens a packet of RTP; `None`: it is not theirs, damaged, or a repeat.
    pub fn open_rtp(&mut self, packet: &[u8]) -> Option<Bytes> {
        Some(self.open.as_mut()?.decrypt_rtp(packet).ok()?.freeze())
    }

    /// Protects a packet of RTCP.
    pub fn seal_rtcp(&mut self, packet: &[u8]) -> Option<Bytes> {
        Some(self.seal.as_mut()?.encrypt_rtcp(packet).ok()?.freeze())
    }

    /// Opens a packet of RTCP; `None`: it is not theirs, damaged, or a repeat.
    pub fn open_rtcp(&mut self, packet: &[u8]) -> Option<Bytes> {
        Some(self.open.as_mut()?.decrypt_rtcp(packet).ok()?.freeze())
    }
}

fn context(crypto: &Crypto) -> Option<Context> {
    let profile = match crypto.suite {
        Suite::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        Suite::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    let (key, salt) = crypto.key.split_at_checked(profile.key_len())?;
    let provider = rtc::crypto::default_provider().ok()?;
    let rtp = Some(srtp_replay_protection(REPLAY_WINDOW));
    let rtcp = Some(srtcp_replay_protection(REPLAY_WINDOW));
    let made = Context::new(key, salt, profile, rtp, rtcp, provider.crypto());
    made.inspect_err(|_| tracing::error!("sip.no_protection")).ok()
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::rtp::Packet;

    fn key(suite: Suite, byte: u8) -> Crypto {
        Crypto { tag: 1, suite, key: Zeroizing::new(vec![byte; suite.key_len()]) }
    }

    fn packet(sequence: u16) -> Bytes {
        let payload = Bytes::from_static(&[7; 160]);
        Packet { payload_type: 0, marker: false, sequence, timestamp: 0, ssrc: 9, payload }.write()
    }

    #[test]
    fn what_is_sealed_is_opened_once_and_by_nobody_else() {
        for suite in Suite::ALL {
            let (ours, theirs) = (key(suite, 1), key(suite, 2));
            let (mut here, mut there) = (Protection::new(&ours, &theirs), Protection::new(&theirs, &ours));
            let sealed = here.seal_rtp(&packet(1)).expect("sealed");
            assert!(!sealed.windows(8).any(|part| part == [7; 8]), "{suite:?}");
            assert_eq!(there.open_rtp(&sealed), Some(packet(1)), "{suite:?}");
            assert_eq!(there.open_rtp(&sealed), None, "{suite:?}: a repeat");
            let mut damaged = here.seal_rtp(&packet(2)).expect("sealed").to_vec();
            damaged[20] ^= 1;
            assert_eq!(there.open_rtp(&damaged), None, "{suite:?}: damaged");
            assert_eq!(here.open_rtp(&sealed), None, "{suite:?}: our own key opens nothing");
            assert_eq!(there.open_rtp(&packet(3)), None, "{suite:?}: unprotected");
            let report = [0x80, 201, 0, 1, 0, 0, 0, 9];
            let sealed = there.seal_rtcp(&report).expect("sealed");
            assert_eq!(here.open_rtcp(&sealed).as_deref(), Some(&report[..]), "{suite:?}");
            assert_eq!(here.open_rtcp(&sealed), None, "{suite:?}: a repeat");
        }
    }

    #[test]
    fn a_key_that_stays_keeps_its_memory() {
        let suite = Suite::AesCm128HmacSha1_80;
        let (ours, theirs) = (key(suite, 1), key(suite, 2));
        let (mut here, mut there) = (Protection::new(&ours, &theirs), Protection::new(&theirs, &ours));
        let sealed = here.seal_rtp(&packet(1)).expect("sealed");
        assert!(there.open_rtp(&sealed).is_some());
        let mut there = there.renewed(&key(suite, 3), &Crypto { tag: 2, ..ours.clone() });
        assert_eq!(there.open_rtp(&sealed), None, "still a repeat");
        let mut here = here.renewed(&ours, &key(suite, 3));
        let sealed = there.seal_rtp(&packet(5)).expect("sealed");
        assert_eq!(here.open_rtp(&sealed), Some(packet(5)), "the new key");
    }

    #[test]
    fn without_a_key_nothing_passes() {
        let short = Crypto { key: Zeroizing::new(vec![1; 3]), ..key(Suite::AeadAes128Gcm, 1) };
        let mut broken = Protection::new(&short, &short);
        assert_eq!((broken.seal_rtp(&packet(1)), broken.open_rtp(&packet(1))), (None, None));
    }
}
