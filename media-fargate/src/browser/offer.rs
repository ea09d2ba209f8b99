//! The browser's offer: limits first, then reduced to the lines that we understood. Only those reach the WebRTC library,
//! so that a line nobody here thought of has no effect.
//!
//! Remote candidates are left out altogether. A browser proves its address with a check of its own, from which it is
//! learnt (RFC 8445, section 7.3.1.3); candidates out of an offer would let a visitor make this server send packets to any
//! address, within our network too. Host names (mDNS) need no resolving either.

use std::io::Cursor;

use domain::app::Codec;
use rtc::sdp::{MediaDescription, SessionDescription};

use crate::rtp::{Format, static_payload_type};

/// Bytes of an offer at most.
pub const MAX_BYTES: usize = 8 * 1_024;
/// Sections of media at most: one of audio, one of data.
const MAX_MEDIA: usize = 2;
/// Candidates at most.
const MAX_CANDIDATES: usize = 64;
/// Transports that a browser may name for audio; the first is what every browser writes.
const AUDIO_PROTOCOLS: [&str; 2] = ["UDP/TLS/RTP/SAVPF", "TCP/TLS/RTP/SAVPF"];
/// And for data channels.
const DATA_PROTOCOLS: [&str; 2] = ["UDP/DTLS/SCTP", "TCP/DTLS/SCTP"];
/// Where SCTP listens when an offer does not say (RFC 8841, section 5.1 has no default; browsers all use this).
const SCTP_PORT: u16 = 5_000;

/// Why an offer is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// Longer than [`MAX_BYTES`].
    #[error("the offer is longer than 8,192 bytes")]
    TooLong,
    /// No session description.
    #[error("the offer is not SDP")]
    Malformed,
    /// More than two sections, or none.
    #[error("an offer has one audio section and at most one for data")]
    Sections,
    /// More than 64 candidates.
    #[error("the offer has more than 64 candidates")]
    Candidates,
    /// The section of audio names another transport than DTLS-SRTP.
    #[error("audio goes over UDP/TLS/RTP/SAVPF and data over UDP/DTLS/SCTP")]
    Protocol,
    /// Sections without names, or with the same.
    #[error("every section has a mid of its own, of 1 to 16 letters and digits")]
    Mid,
    /// Not one transport for everything.
    #[error("all sections share one transport: BUNDLE, rtcp-mux, the same ICE credentials and fingerprint")]
    Bundle,
    /// No ICE credentials, or none of the form of RFC 8839.
    #[error("ice-ufrag or ice-pwd is missing or wrong")]
    Credentials,
    /// No fingerprint of the certificate, or only a weak one.
    #[error("a SHA-256 fingerprint is missing or wrong")]
    Fingerprint,
    /// The browser wants to be DTLS server.
    #[error("setup is actpass or active: the server answers as passive")]
    Setup,
    /// Audio in one direction only.
    #[error("audio is sendrecv")]
    Direction,
    /// The codec that the call needs is not in the offer.
    #[error("the offer lacks the call's codec")]
    Codec,
    /// A restart with the sections, the certificate or the credentials not as they should be.
    #[error("an ICE restart brings new credentials and is otherwise as the first offer")]
    Restart,
}

impl OfferError {
    /// What HTTP says: 400 for what is no offer or over a limit, 422 for an offer that we cannot answer.
    pub fn status(self) -> u16 {
        match self {
            Self::TooLong | Self::Malformed | Self::Candidates => 400,
            _ => 422,
        }
    }
}

/// What was understood of an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    mids: Vec<(Section, String)>,
    credentials: Credentials,
    fingerprint: String,
    actpass: bool,
    /// How audio travels: the one codec, and telephone events on its clock, when the browser offers them.
    format: Format,
    ssrc: Option<u32>,
    sctp_port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Audio,
    Data,
}

/// ICE credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Credentials {
    ufrag: String,
    pwd: String,
}

/// The name in `rtpmap`, the clock in Hz, and the channels when there are more than one.
pub(super) fn encoding(codec: Codec) -> (&'static str, u32, u16) {
    match codec {
        Codec::Pcmu => ("PCMU", 8_000, 1),
        Codec::Pcma => ("PCMA", 8_000, 1),
        Codec::Opus => ("opus", 48_000, 2),
    }
}

impl Offer {
    /// Reads an offer for a call in `codec`.
    ///
    /// # Errors
    /// When it is over a limit, no SDP, or cannot be answered.
    pub fn read(text: &str, codec: Codec) -> Result<Self, OfferError> {
        if text.len() > MAX_BYTES {
            return Err(OfferError::TooLong);
        }
        let sdp = SessionDescription::unmarshal(&mut Cursor::new(text)).map_err(|_| OfferError::Malformed)?;
        let media = &sdp.media_descriptions;
        if media.iter().flat_map(|m| &m.attributes).filter(|a| a.is_ice_candidate()).count() > MAX_CANDIDATES {
            return Err(OfferError::Candidates);
        }
        let mids = sections(media)?;
        bundled(&sdp, &mids)?;
        let audio = media.iter().find(|m| m.media_name.media == "audio").ok_or(OfferError::Sections)?;
        if direction(&sdp, audio) != "sendrecv" {
            return Err(OfferError::Direction);
        }
        let (fingerprint, actpass) = (fingerprint(&sdp)?, actpass(&sdp)?);
        let data = media.iter().find(|m| m.media_name.media == "application");
        let sctp_port = data.and_then(|m| value(m, "sctp-port")?.parse().ok()).unwrap_or(SCTP_PORT);
        Ok(Self {
            mids,
            credentials: credentials(&sdp)?,
            fingerprint,
            actpass,
            format: format(audio, codec)?,
            ssrc: value(audio, "ssrc").and_then(|line| line.split(' ').next()?.parse().ok()),
            sctp_port,
        })
    }

    /// Whether `self` may follow `first` as an ICE restart: new credentials, all else as before.
    ///
    /// # Errors
    /// When something else is new, or the credentials are not.
    pub fn restarts(&self, first: &Self) -> Result<(), OfferError> {
        let same = self.mids == first.mids && self.fingerprint == first.fingerprint;
        let same = same && (self.format, self.ssrc) == (first.format, first.ssrc);
        (same && self.credentials != first.credentials).then_some(()).ok_or(OfferError::Restart)
    }

    /// How packets are marked, both ways.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether a data channel can be opened.
    pub fn has_data(&self) -> bool {
        self.mids.iter().any(|(section, _)| *section == Section::Data)
    }

    /// The reduced offer.
    pub fn to_sdp(&self) -> String {
        let names: Vec<&str> = self.mids.iter().map(|(_, mid)| mid.as_str()).collect();
        let mut sdp =
            format!("v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n", names.join(" "));
        for (section, mid) in &self.mids {
            match section {
                Section::Audio => self.write_audio(&mut sdp),
                Section::Data => self.write_data(&mut sdp),
            }
            let Credentials { ufrag, pwd } = &self.credentials;
            let setup = if self.actpass { "actpass" } else { "active" };
            sdp.push_str(&format!("a=mid:{mid}\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\n"));
            sdp.push_str(&format!("a=fingerprint:{}\r\na=setup:{setup}\r\n", self.fingerprint));
        }
        sdp
    }

    fn write_audio(&self, sdp: &mut String) {
        let Format { codec, audio, events, .. } = self.format;
        let (name, clock, channels) = encoding(codec);
        let channels = if channels > 1 { format!("/{channels}") } else { String::new() };
        let second = events.map(|event| format!(" {event}")).unwrap_or_default();
        sdp.push_str(&format!("m=audio 9 UDP/TLS/RTP/SAVPF {audio}{second}\r\nc=IN IP4 0.0.0.0\r\n"));
        sdp.push_str(&format!("a=rtpmap:{audio} {name}/{clock}{channels}\r\n"));
        if codec == Codec::Opus {
            sdp.push_str(&format!("a=fmtp:{audio} {OPUS_FORMAT}\r\n"));
        }
        if let Some(event) = events {
            sdp.push_str(&format!("a=rtpmap:{event} telephone-event/{clock}\r\n"));
        }
        if let Some(ssrc) = self.ssrc {
            sdp.push_str(&format!("a=ssrc:{ssrc} cname:-\r\n"));
        }
        sdp.push_str("a=sendrecv\r\na=rtcp-mux\r\n");
    }

    fn write_data(&self, sdp: &mut String) {
        sdp.push_str("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n");
        sdp.push_str(&format!("a=sctp-port:{}\r\n", self.sctp_port));
    }
}

/// Opus as we ask for it: in-band correction of lost packets, frames from 10 ms.
pub(super) const OPUS_FORMAT: &str = "minptime=10;useinbandfec=1";

fn value<'a>(media: &'a MediaDescription, key: &str) -> Option<&'a str> {
    media.attribute(key).flatten()
}

/// All values of an attribute, of the session and of every section.
fn values<'a>(sdp: &'a SessionDescription, key: &str) -> impl Iterator<Item = &'a str> {
    let all = sdp.attributes.iter().chain(sdp.media_descriptions.iter().flat_map(|m| &m.attributes));
    all.filter(move |attribute| attribute.key == key).filter_map(|attribute| attribute.value.as_deref())
}

/// The one value of an attribute that all sections share.
fn shared<'a>(sdp: &'a SessionDescription, key: &str, missing: OfferError) -> Result<&'a str, OfferError> {
    let mut all = values(sdp, key);
    let first = all.next().ok_or(missing)?;
    if all.all(|other| other == first) { Ok(first) } else { Err(OfferError::Bundle) }
}

fn sections(media: &[MediaDescription]) -> Result<Vec<(Section, String)>, OfferError> {
    if media.is_empty() || media.len() > MAX_MEDIA {
        return Err(OfferError::Sections);
    }
    let mut found: Vec<(Section, String)> = Vec::new();
    for one in media {
        let (section, protocols) = match one.media_name.media.as_str() {
            "audio" => (Section::Audio, AUDIO_PROTOCOLS),
            "application" => (Section::Data, DATA_PROTOCOLS),
            _ => return Err(OfferError::Sections),
        };
        let rejected = one.media_name.port.value == 0 && !one.has_attribute("bundle-only");
        if rejected || found.iter().any(|(other, _)| *other == section) {
            return Err(OfferError::Sections);
        }
        let data = section == Section::Data && one.media_name.formats != ["webrtc-datachannel"];
        if data || !protocols.contains(&one.media_name.protos.join("/").as_str()) {
            return Err(OfferError::Protocol);
        }
        let mid = value(one, "mid").filter(|mid| is_name(mid)).ok_or(OfferError::Mid)?;
        if found.iter().any(|(_, other)| other == mid) {
            return Err(OfferError::Mid);
        }
        found.push((section, mid.to_owned()));
    }
    Ok(found)
}

fn is_name(mid: &str) -> bool {
    (1..=16).contains(&mid.len()) && mid.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// One transport carries all: without it, each section would need ports of its own.
fn bundled(sdp: &SessionDescription, mids: &[(Section, String)]) -> Result<(), OfferError> {
    let group = sdp.attribute("group").and_then(|group| group.strip_prefix("BUNDLE ")).unwrap_or_default();
    let grouped = mids.len() == 1 || mids.iter().all(|(_, mid)| group.split(' ').any(|member| member == mid));
    let audio = sdp.media_descriptions.iter().filter(|m| m.media_name.media == "audio");
    let muxed = audio.into_iter().all(|m| m.has_attribute("rtcp-mux"));
    (grouped && muxed).then_some(()).ok_or(OfferError::Bundle)
}

/// ICE's characters and lengths: RFC 8839, section 5.4.
fn credentials(sdp: &SessionDescription) -> Result<Credentials, OfferError> {
    let read = |key: &str, least: usize| {
        let text = shared(sdp, key, OfferError::Credentials)?;
        let allowed = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte));
        let fits = allowed && (least..=256).contains(&text.len());
        fits.then(|| text.to_owned()).ok_or(OfferError::Credentials)
    };
    Ok(Credentials { ufrag: read("ice-ufrag", 4)?, pwd: read("ice-pwd", 22)? })
}

/// The certificate's SHA-256: every client has it, some write stronger ones beside it.
fn fingerprint(sdp: &SessionDescription) -> Result<String, OfferError> {
    let mut all = values(sdp, "fingerprint")
        .filter_map(|text| text.split_once(' '))
        .filter(|(hash, _)| hash.eq_ignore_ascii_case("sha-256"))
        .map(|(_, bytes)| bytes);
    let bytes = all.next().ok_or(OfferError::Fingerprint)?;
    if all.any(|other| other != bytes) {
        return Err(OfferError::Bundle);
    }
    let is_byte = |pair: &str| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
    let right = bytes.split(':').count() == 32 && bytes.split(':').all(is_byte);
    right.then(|| format!("sha-256 {bytes}")).ok_or(OfferError::Fingerprint)
}

fn actpass(sdp: &SessionDescription) -> Result<bool, OfferError> {
    match shared(sdp, "setup", OfferError::Setup)? {
        "actpass" => Ok(true),
        "active" => Ok(false),
        _ => Err(OfferError::Setup),
    }
}

fn direction<'a>(sdp: &SessionDescription, audio: &MediaDescription) -> &'a str {
    let directions = ["sendrecv", "sendonly", "recvonly", "inactive"];
    let of_section = directions.into_iter().find(|direction| audio.has_attribute(direction));
    let of_session = || directions.into_iter().find(|direction| sdp.has_attribute(direction));
    of_section.or_else(of_session).unwrap_or("sendrecv")
}

fn format(section: &MediaDescription, codec: Codec) -> Result<Format, OfferError> {
    let (name, clock, channels) = encoding(codec);
    let audio = find(section, |map| is_encoding(map, name, clock, channels));
    let audio = audio.or_else(|| unmapped(section, codec)).ok_or(OfferError::Codec)?;
    let events = find(section, |map| is_encoding(map, "telephone-event", clock, 1));
    Ok(Format { codec, audio, events, comfort_noise: None })
}

/// Whether `map` is `name/clock[/channels]`; names have no case (RFC 4855, section 3).
fn is_encoding(map: &str, name: &str, clock: u32, channels: u16) -> bool {
    let mut parts = map.trim().split('/');
    let named = parts.next().is_some_and(|part| part.eq_ignore_ascii_case(name));
    let clocked = parts.next().and_then(|part| part.parse().ok()) == Some(clock);
    named && clocked && parts.next().map_or(Some(1), |part| part.parse().ok()) == Some(channels)
}

/// The payload types of the section, in its order of preference.
fn offered(audio: &MediaDescription) -> impl Iterator<Item = u8> {
    audio.media_name.formats.iter().filter_map(|format| format.parse().ok()).filter(|payload_type| *payload_type < 128)
}

/// What `rtpmap` says of a payload type.
fn map(audio: &MediaDescription, payload_type: u8) -> Option<&str> {
    let maps = audio.attributes.iter().filter(|attribute| attribute.key == "rtpmap");
    maps.filter_map(|attribute| attribute.value.as_deref()?.split_once(' '))
        .find(|(number, _)| number.parse() == Ok(payload_type))
        .map(|(_, map)| map)
}

/// The first payload type whose `rtpmap` fits.
fn find(audio: &MediaDescription, fits: impl Fn(&str) -> bool) -> Option<u8> {
    offered(audio).find(|payload_type| map(audio, *payload_type).is_some_and(&fits))
}

/// G.711's payload types are fixed, and need no `rtpmap` (RFC 3551, section 6). One that says otherwise is believed: what
/// the browser sends then is something else.
fn unmapped(audio: &MediaDescription, codec: Codec) -> Option<u8> {
    let fixed = static_payload_type(codec)?;
    offered(audio).find(|payload_type| *payload_type == fixed && map(audio, fixed).is_none())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As Chromium writes it, shortened where lines repeat.
    const CHROMIUM: &str = include_str!("../../tests/chromium.sdp");

    fn read(text: &str) -> Result<Offer, OfferError> {
        Offer::read(text, Codec::Pcmu)
    }

    #[test]
    fn each_codec_takes_the_event_of_its_clock() {
        for (codec, payload_type, telephone_event) in
            [(Codec::Pcmu, 0, 126), (Codec::Pcma, 8, 126), (Codec::Opus, 111, 110)]
        {
            let offer = Offer::read(CHROMIUM, codec).expect("Chromium's offer");
            let format = Format { codec, audio: payload_type, events: Some(telephone_event), comfort_noise: None };
            assert_eq!((offer.format(), offer.ssrc), (format, Some(1001)));
        }
    }

    #[test]
    fn what_is_not_understood_is_left_out() {
        let sdp = read(CHROMIUM).expect("Chromium's offer").to_sdp();
        for gone in ["candidate", "extmap", "G722", "rtcp-fb", "telephone-event/48000", "msid", "trickle", ".local"] {
            assert!(!sdp.contains(gone), "{gone}");
        }
        assert!(sdp.contains("m=audio 9 UDP/TLS/RTP/SAVPF 0 126\r\n"), "{sdp}");
    }

    #[test]
    fn the_reduced_offer_says_the_same() {
        for codec in [Codec::Pcmu, Codec::Pcma, Codec::Opus] {
            let offer = Offer::read(CHROMIUM, codec).expect("Chromium's offer");
            assert_eq!(Offer::read(&offer.to_sdp(), codec).as_ref(), Ok(&offer));
        }
    }

    #[test]
    fn refusals_name_their_reason() {
        use OfferError as E;
        let data = CHROMIUM.find("m=application").expect("a data section");
        let changed = |from: &str, to: &str| CHROMIUM.replace(from, to);
        let many = format!("a=rtcp-mux\r\n{}", "a=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n".repeat(64));
        for (text, why) in [
            (" ".repeat(MAX_BYTES + 1), E::TooLong),
            ("hello".to_owned(), E::Malformed),
            (String::new(), E::Malformed),
            ("v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n".to_owned(), E::Sections),
            (CHROMIUM[..data].to_owned() + &CHROMIUM[data..].repeat(2), E::Sections),
            (changed("m=audio", "m=video"), E::Sections),
            (changed("m=audio 9", "m=audio 0"), E::Sections),
            (changed("a=rtcp-mux\r\n", &many), E::Candidates),
            (changed("UDP/TLS/RTP/SAVPF", "RTP/AVP"), E::Protocol),
            (changed("webrtc-datachannel", "rtp-midi"), E::Protocol),
            (changed("a=mid:1\r\n", ""), E::Mid),
            (changed("a=mid:1\r\n", "a=mid:0\r\n"), E::Mid),
            (changed("a=mid:1\r\n", "a=mid:a b\r\n"), E::Mid),
            (changed("BUNDLE 0 1", "BUNDLE 0"), E::Bundle),
            (changed("a=rtcp-mux\r\n", ""), E::Bundle),
            (CHROMIUM.replacen("ufrag:abcd", "ufrag:efgh", 1), E::Bundle),
            (changed("ufrag:abcd", "ufrag:abc"), E::Credentials),
            (changed("ufrag:abcd", "ufrag:ab d"), E::Credentials),
            (changed("a=ice-pwd:aaaaaaaaaaaaaaaaaaaaaaaa\r\n", ""), E::Credentials),
            (changed("sha-256 00", "sha-1 00"), E::Fingerprint),
            (changed(":EE:FF\r\n", ":EE\r\n"), E::Fingerprint),
            (changed("a=setup:actpass", "a=setup:passive"), E::Setup),
            (changed("a=sendrecv", "a=recvonly"), E::Direction),
            (changed("a=sendrecv", "a=sendonly"), E::Direction),
            (changed("SAVPF 111 63 9 0 8", "SAVPF 111 63 9 8"), E::Codec),
        ] {
            assert_eq!(read(&text), Err(why), "{text}");
            assert!([400, 422].contains(&why.status()));
        }
    }

    #[test]
    fn fixed_payload_types_need_no_map_and_a_map_that_says_otherwise_counts() {
        const OWN: &str = "a=rtpmap:0 PCMU/8000\r\n";
        for (map, pcmu) in [
            ("", Ok(0)),
            ("a=rtpmap:0 pcmu/8000/1\r\n", Ok(0)),
            ("a=rtpmap:0 PCMA/8000\r\n", Err(OfferError::Codec)),
            ("a=rtpmap:0 PCMU/16000\r\n", Err(OfferError::Codec)),
            ("a=rtpmap:0 PCMU/8000/2\r\n", Err(OfferError::Codec)),
            ("a=rtpmap:0 nonsense\r\n", Err(OfferError::Codec)),
            ("a=rtpmap:0 L16/8000\r\na=rtpmap:63 PCMU/8000\r\n", Ok(63)),
            // Of two the first counts, whatever the second says.
            ("a=rtpmap:0 G722/8000\r\na=rtpmap:0 PCMU/8000\r\n", Err(OfferError::Codec)),
        ] {
            let offer = read(&CHROMIUM.replace("a=rtpmap:63 red/48000/2\r\n", "").replace(OWN, map));
            assert_eq!(offer.map(|offer| offer.format().audio), pcmu, "{map}");
        }
        let swapped = CHROMIUM.replace("rtpmap:0 PCMU", "rtpmap:0 PCMA").replace("rtpmap:8 PCMA", "rtpmap:8 PCMU");
        for (codec, payload_type) in [(Codec::Pcmu, 8), (Codec::Pcma, 0)] {
            let offer = Offer::read(&swapped, codec).expect("an offer");
            assert_eq!(offer.format().audio, payload_type);
            assert!(offer.to_sdp().contains(&format!("a=rtpmap:{payload_type} {}/8000\r\n", encoding(codec).0)));
        }
    }

    #[test]
    fn a_restart_has_new_credentials_and_nothing_else_new() {
        let first = read(CHROMIUM).expect("an offer");
        let again = |from: &str, to: &str| read(&CHROMIUM.replace(from, to)).expect("an offer").restarts(&first);
        assert_eq!(again("ufrag:abcd", "ufrag:efgh"), Ok(()));
        assert_eq!(again("", ""), Err(OfferError::Restart), "nothing new");
        let other = CHROMIUM.replace("ufrag:abcd", "ufrag:efgh").replace("AA:BB", "AA:BC");
        assert_eq!(read(&other).expect("an offer").restarts(&first), Err(OfferError::Restart), "another certificate");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        /// Bytes changed, cut and doubled: an answer or an error, and what is read can be read again.
        #[test]
        fn a_mutated_offer_never_panics(
            changes in prop::collection::vec((0_usize..4_000, "[ -~\r\n\u{e9}]{0,3}", 0_usize..40), 1..6),
            codec in prop::sample::select(vec![Codec::Pcmu, Codec::Pcma, Codec::Opus]),
        ) {
            let mut text = CHROMIUM.to_owned();
            for (at, put, cut) in changes {
                let start = (0..=at % (text.len() + 1)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
                let end = (start + cut..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
                text.replace_range(start..end, &put);
            }
            if let Ok(offer) = Offer::read(&text, codec) {
                prop_assert_eq!(Offer::read(&offer.to_sdp(), codec), Ok(offer));
            }
        }
    }
}
