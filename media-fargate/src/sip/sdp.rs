//! Session descriptions (RFC 8866) of one audio stream and the offers and answers made of them (RFC 3264): G.711, Opus,
//! telephone events of the right clock, hold, and keys in the description (RFC 4568) where a provider asks for them.

use std::{
    fmt::{self, Write as _},
    net::{IpAddr, SocketAddr},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use crate::rtp::{Codec, Format as Marking, clock_rate as clock, static_payload_type};

/// Bytes of a description at most (security.md, "Media").
pub const MAX_BYTES: usize = 8 * 1024;
/// Media lines of a description at most (security.md, "Media").
pub const MAX_MEDIA: usize = 2;
/// Milliseconds of audio in a packet when nobody says otherwise (RFC 3551, section 4.2).
pub const DEFAULT_PTIME: u8 = 20;

/// Payload types we give to what has no static one.
const OPUS: u8 = 111;
const EVENTS_8K: u8 = 101;
const EVENTS_48K: u8 = 110;

/// Why a description cannot be used. No part of the description is in it: descriptions carry keys and addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// It is longer than [`MAX_BYTES`].
    #[error("the description is too long")]
    TooLong,
    /// It has more than [`MAX_MEDIA`] media lines.
    #[error("the description has too many media lines")]
    TooManyMedia,
    /// It is not text, or a line of it cannot be read.
    #[error("the description cannot be read")]
    Malformed,
    /// It has no audio, or the audio was refused (port 0).
    #[error("the description has no audio")]
    NoAudio,
    /// It names no unicast IP address to send to.
    #[error("the description has no usable address")]
    NoAddress,
    /// It has no codec, or no key, that both sides know.
    #[error("the description has nothing both sides know")]
    NothingInCommon,
}

/// Which way audio flows, as its writer sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the attributes' own (RFC 8866, section 6.7)")]
pub enum Direction {
    #[default]
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    /// Of whether its writer sends and whether it receives.
    pub fn of(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }

    /// Whether its writer sends.
    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether its writer receives.
    pub fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    /// The answer to it by one who wants `wish` (RFC 3264, section 6.1).
    pub fn answered(self, wish: Self) -> Self {
        Self::of(self.receives() && wish.sends(), self.sends() && wish.receives())
    }

    fn name(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }
}

/// A way to protect RTP, strongest first; nothing weaker is spoken (security.md, "Media").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// AES-128-GCM (RFC 7714).
    AeadAes128Gcm,
    /// AES-128 in counter mode with an 80-bit HMAC-SHA1 (RFC 4568).
    AesCm128HmacSha1_80,
}

impl Suite {
    /// Every suite, strongest first.
    pub const ALL: [Self; 2] = [Self::AeadAes128Gcm, Self::AesCm128HmacSha1_80];

    fn name(self) -> &'static str {
        match self {
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
        }
    }

    /// Bytes of the master key and salt together.
    pub fn key_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm => 16 + 12,
            Self::AesCm128HmacSha1_80 => 16 + 14,
        }
    }
}

/// One side's key: what it protects its own packets with.
#[derive(Clone, PartialEq, Eq)]
pub struct Crypto {
    /// The number by which an answer names what it accepts.
    pub tag: u32,
    /// How.
    pub suite: Suite,
    /// Master key, then master salt.
    pub key: Zeroizing<Vec<u8>>,
}

/// Never the key.
impl fmt::Debug for Crypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crypto").field("tag", &self.tag).field("suite", &self.suite).finish_non_exhaustive()
    }
}

impl Crypto {
    /// Reads `1 AES_CM_128_HMAC_SHA1_80 inline:key|lifetime`; `None`: a suite we do not speak, several keys, or an MKI.
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let tag = words.next()?.parse().ok()?;
        let name = words.next()?;
        let suite = Suite::ALL.into_iter().find(|suite| suite.name().eq_ignore_ascii_case(name))?;
        let mut parts = words.next()?.strip_prefix("inline:")?.split('|');
        let key = Zeroizing::new(BASE64_STANDARD.decode(parts.next()?).ok()?);
        // What follows may be a lifetime; `a:b` is an MKI, which would stand in every packet.
        let plain = parts.all(|part| !part.contains(':'));
        (plain && key.len() == suite.key_len()).then_some(Self { tag, suite, key })
    }
}

/// What a payload type stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Audio(Codec),
    Events { clock: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Format {
    payload_type: u8,
    kind: Kind,
}

fn payload_type(codec: Codec) -> u8 {
    static_payload_type(codec).unwrap_or(OPUS)
}

/// What both sides agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// How to mark what we send.
    pub send: Marking,
    /// How what we receive is marked; its codec is the same.
    pub receive: Marking,
    /// Milliseconds of audio the other side wants in a packet.
    pub ptime: u8,
    /// Where the other side receives RTP; `None` when it names no address (0.0.0.0, an old way to hold).
    pub remote: Option<SocketAddr>,
    /// Where it receives RTCP.
    pub remote_rtcp: Option<SocketAddr>,
    /// Which way audio flows, as we see it.
    pub direction: Direction,
    /// Our key and theirs, when packets are protected.
    pub crypto: Option<(Crypto, Crypto)>,
}

impl Media {
    /// The codec of both directions.
    pub fn codec(&self) -> Codec {
        self.send.codec
    }
}

/// Comfort noise is neither offered nor taken: nobody here makes any.
fn marking(codec: Codec, audio: u8, events: Option<u8>) -> Marking {
    Marking { codec, audio, events, comfort_noise: None }
}

/// Our side of a session: what its descriptions are made of.
#[derive(Clone, Debug)]
pub struct Local {
    /// Names the session (RFC 8866, `o=`).
    pub session: u64,
    /// Grows with every description that differs.
    pub version: u64,
    /// Where we receive RTP; RTCP is received one port above.
    pub address: SocketAddr,
    /// Codecs in order of preference.
    pub codecs: Vec<Codec>,
    /// Our keys, strongest first; empty: packets are not protected.
    pub crypto: Vec<Crypto>,
    /// Which way we want audio to flow.
    pub direction: Direction,
}

/// A description as the other side wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    address: Option<IpAddr>,
    port: u16,
    rtcp: Option<(Option<IpAddr>, u16)>,
    formats: Vec<Format>,
    ptime: Option<u8>,
    direction: Direction,
    protected: bool,
    crypto: Vec<Crypto>,
    /// Its media lines in order; `None` is the audio, others are kept for an answer to refuse.
    lines: Vec<Option<String>>,
}

impl Local {
    /// An offer of all our codecs.
    pub fn offer(&self) -> String {
        let formats = self.formats();
        let mut text = self.head();
        self.media(&mut text, &formats, &self.crypto, self.direction, DEFAULT_PTIME);
        text
    }

    /// What the answer to [`Self::offer`] means.
    ///
    /// # Errors
    /// When nothing is in common, or the key is missing.
    pub fn answered(&self, answer: &Description) -> Result<Media, SdpError> {
        let ours = self.formats();
        let (theirs, codec) = answer.audio(&self.codecs).ok_or(SdpError::NothingInCommon)?;
        let send = marking(codec, theirs, answer.events(codec));
        let events = ours.iter().find(|format| format.kind == Kind::Events { clock: clock(codec) });
        let events = send.events.and(events).map(|format| format.payload_type);
        let receive = marking(codec, payload_type(codec), events);
        let crypto = self.keys(answer)?;
        let direction = Direction::of(answer.direction.receives(), answer.direction.sends());
        Ok(answer.media(send, receive, direction, crypto))
    }

    /// Answers an offer: the text, and what it means.
    ///
    /// # Errors
    /// When nothing is in common, or the key is missing.
    pub fn answer(&self, offer: &Description) -> Result<(String, Media), SdpError> {
        let (audio, codec) = offer.audio(&self.codecs).ok_or(SdpError::NothingInCommon)?;
        let payloads = marking(codec, audio, offer.events(codec));
        let crypto = self.keys(offer)?;
        let direction = offer.effective_direction().answered(self.direction);
        let events =
            payloads.events.map(|events| Format { payload_type: events, kind: Kind::Events { clock: clock(codec) } });
        let formats: Vec<_> =
            [Format { payload_type: audio, kind: Kind::Audio(codec) }].into_iter().chain(events).collect();
        let ours: Vec<_> = crypto.iter().map(|(ours, _)| ours.clone()).collect();
        let mut text = self.head();
        for line in &offer.lines {
            match line {
                Some(refused) => text.push_str(refused),
                None => self.media(&mut text, &formats, &ours, direction, offer.ptime()),
            }
        }
        Ok((text, offer.media(payloads, payloads, direction, crypto)))
    }

    fn formats(&self) -> Vec<Format> {
        let audio = |codec: &Codec| Format { payload_type: payload_type(*codec), kind: Kind::Audio(*codec) };
        let mut formats: Vec<_> = self.codecs.iter().map(audio).collect();
        for (clock_rate, payload_type) in [(8_000, EVENTS_8K), (48_000, EVENTS_48K)] {
            if self.codecs.iter().any(|codec| clock(*codec) == clock_rate) {
                formats.push(Format { payload_type, kind: Kind::Events { clock: clock_rate } });
            }
        }
        formats
    }

    /// Our key and theirs of the first suite of theirs that we speak; none when neither side protects.
    fn keys(&self, theirs: &Description) -> Result<Option<(Crypto, Crypto)>, SdpError> {
        if self.crypto.is_empty() && !theirs.protected {
            return Ok(None);
        }
        let pair = |their: &Crypto| {
            let ours = self.crypto.iter().find(|ours| ours.suite == their.suite)?;
            Some((Crypto { tag: their.tag, ..ours.clone() }, their.clone()))
        };
        let both = theirs.protected.then(|| theirs.crypto.iter().find_map(pair)).flatten();
        both.map(Some).ok_or(SdpError::NothingInCommon)
    }

    fn head(&self) -> String {
        let address = Address(self.address.ip());
        format!("v=0\r\no=- {} {} IN {address}\r\ns=-\r\nc=IN {address}\r\nt=0 0\r\n", self.session, self.version)
    }

    fn media(&self, text: &mut String, formats: &[Format], crypto: &[Crypto], direction: Direction, ptime: u8) {
        let port = self.address.port();
        let profile = if crypto.is_empty() { "RTP/AVP" } else { "RTP/SAVP" };
        // Writing to a string cannot fail.
        let _ = write!(text, "m=audio {port} {profile}");
        for format in formats {
            let _ = write!(text, " {}", format.payload_type);
        }
        text.push_str("\r\n");
        for format in formats {
            let number = format.payload_type;
            let _ = match format.kind {
                Kind::Audio(Codec::Pcmu) => write!(text, "a=rtpmap:{number} PCMU/8000\r\n"),
                Kind::Audio(Codec::Pcma) => write!(text, "a=rtpmap:{number} PCMA/8000\r\n"),
                Kind::Audio(Codec::Opus) => {
                    write!(text, "a=rtpmap:{number} opus/48000/2\r\na=fmtp:{number} minptime=10;useinbandfec=1\r\n")
                }
                Kind::Events { clock } => {
                    write!(text, "a=rtpmap:{number} telephone-event/{clock}\r\na=fmtp:{number} 0-15\r\n")
                }
            };
        }
        for Crypto { tag, suite, key } in crypto {
            let key = Zeroizing::new(BASE64_STANDARD.encode(key));
            let _ = write!(text, "a=crypto:{tag} {} inline:{}\r\n", suite.name(), *key);
        }
        let rtcp = port.saturating_add(1);
        let _ = write!(text, "a=rtcp:{rtcp}\r\na=ptime:{ptime}\r\na={}\r\n", direction.name());
    }
}

struct Address(IpAddr);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.0.is_ipv4() { "IP4" } else { "IP6" }, self.0)
    }
}

impl Description {
    /// Reads a description. Attributes nobody here knows are passed over.
    ///
    /// # Errors
    /// When it breaks a limit, cannot be read, or offers no audio at a unicast address.
    pub fn parse(body: &[u8]) -> Result<Self, SdpError> {
        if body.len() > MAX_BYTES {
            return Err(SdpError::TooLong);
        }
        let text = std::str::from_utf8(body).map_err(|_| SdpError::Malformed)?;
        let mut lines = text.lines().filter(|line| !line.is_empty());
        if lines.next() != Some("v=0") {
            return Err(SdpError::Malformed);
        }
        let mut reader = Reader::default();
        for line in lines {
            reader.line(line)?;
        }
        reader.finish()
    }

    /// The direction as meant: sending to nowhere is the old way to hold (RFC 2543).
    pub fn effective_direction(&self) -> Direction {
        let reachable = self.address.is_some();
        Direction::of(self.direction.sends(), self.direction.receives() && reachable)
    }

    /// Whether its writer has put us on hold: it no longer listens.
    pub fn holds(&self) -> bool {
        !self.effective_direction().receives()
    }

    fn ptime(&self) -> u8 {
        self.ptime.unwrap_or(DEFAULT_PTIME)
    }

    /// The first format of theirs that is one of `codecs`.
    fn audio(&self, codecs: &[Codec]) -> Option<(u8, Codec)> {
        self.formats.iter().find_map(|format| match format.kind {
            Kind::Audio(codec) if codecs.contains(&codec) => Some((format.payload_type, codec)),
            _ => None,
        })
    }

    fn events(&self, codec: Codec) -> Option<u8> {
        let kind = Kind::Events { clock: clock(codec) };
        self.formats.iter().find(|format| format.kind == kind).map(|format| format.payload_type)
    }

    fn media(&self, send: Marking, receive: Marking, direction: Direction, crypto: Option<(Crypto, Crypto)>) -> Media {
        let (rtcp_ip, rtcp_port) = self.rtcp.unwrap_or((None, self.port.saturating_add(1)));
        let rtcp_ip = rtcp_ip.or(self.address);
        Media {
            send,
            receive,
            ptime: self.ptime(),
            remote: self.address.map(|ip| SocketAddr::new(ip, self.port)),
            remote_rtcp: rtcp_ip.map(|ip| SocketAddr::new(ip, rtcp_port)),
            direction,
            crypto,
        }
    }
}

/// What has been read of a description so far.
#[derive(Default)]
struct Reader {
    session: Section,
    audio: Option<Audio>,
    lines: Vec<Option<String>>,
    /// Whether the current lines belong to the audio.
    in_audio: bool,
}

/// What may stand for the whole session or for one of its media.
#[derive(Default)]
struct Section {
    /// Outer: whether there was one; inner: `None` for 0.0.0.0 and ::.
    address: Option<Option<IpAddr>>,
    direction: Option<Direction>,
}

struct Audio {
    port: u16,
    protected: bool,
    numbers: Vec<u8>,
    maps: Vec<Format>,
    section: Section,
    rtcp: Option<(Option<IpAddr>, u16)>,
    ptime: Option<u8>,
    crypto: Vec<Crypto>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), SdpError> {
        let (kind, value) = line.split_once('=').ok_or(SdpError::Malformed)?;
        match kind {
            "m" => self.medium(value),
            "c" if self.lines.is_empty() => {
                self.session.address = Some(connection(value)?);
                Ok(())
            }
            "a" if self.lines.is_empty() => {
                self.session.direction = direction(value).or(self.session.direction);
                Ok(())
            }
            "c" | "a" if self.in_audio => self.audio.as_mut().map_or(Ok(()), |audio| audio.line(kind, value)),
            _ => Ok(()),
        }
    }

    fn medium(&mut self, value: &str) -> Result<(), SdpError> {
        if self.lines.len() == MAX_MEDIA {
            return Err(SdpError::TooManyMedia);
        }
        let mut words = value.split_ascii_whitespace();
        let mut word = || words.next().ok_or(SdpError::Malformed);
        let (medium, port, profile) = (word()?, word()?, word()?);
        let port = port.split('/').next().unwrap_or_default();
        let port: u16 = port.parse().map_err(|_| SdpError::Malformed)?;
        let protected = match profile {
            "RTP/AVP" | "RTP/AVPF" => Some(false),
            "RTP/SAVP" | "RTP/SAVPF" => Some(true),
            _ => None,
        };
        self.in_audio = medium == "audio" && port != 0 && self.audio.is_none() && protected.is_some();
        if let (true, Some(protected)) = (self.in_audio, protected) {
            let numbers: Result<_, _> = words.map(str::parse).collect();
            self.audio = Some(Audio {
                port,
                protected,
                numbers: numbers.map_err(|_| SdpError::Malformed)?,
                maps: Vec::new(),
                section: Section::default(),
                rtcp: None,
                ptime: None,
                crypto: Vec::new(),
            });
            self.lines.push(None);
        } else {
            let format = words.next().unwrap_or("0");
            self.lines.push(Some(format!("m={medium} 0 {profile} {format}\r\n")));
        }
        Ok(())
    }

    fn finish(self) -> Result<Description, SdpError> {
        let audio = self.audio.ok_or(SdpError::NoAudio)?;
        let formats = audio.formats();
        let address = audio.section.address.or(self.session.address).ok_or(SdpError::NoAddress)?;
        Ok(Description {
            address,
            port: audio.port,
            rtcp: audio.rtcp,
            formats,
            ptime: audio.ptime,
            direction: audio.section.direction.or(self.session.direction).unwrap_or_default(),
            protected: audio.protected,
            crypto: audio.crypto,
            lines: self.lines,
        })
    }
}

impl Audio {
    fn line(&mut self, kind: &str, value: &str) -> Result<(), SdpError> {
        if kind == "c" {
            self.section.address = Some(connection(value)?);
            return Ok(());
        }
        let (name, value) = value.split_once(':').unwrap_or((value, ""));
        match name {
            "rtpmap" => self.maps.extend(rtpmap(value)),
            "ptime" => self.ptime = value.trim().parse().ok().filter(|ptime| (10..=120).contains(ptime)),
            "crypto" => self.crypto.extend(Crypto::parse(value)),
            "rtcp" => self.rtcp = rtcp(value),
            _ => self.section.direction = direction(name).or(self.section.direction),
        }
        Ok(())
    }

    /// The payload types of the media line in their order, as far as they are known.
    fn formats(&self) -> Vec<Format> {
        let fixed = |number: u8| match number {
            0 => Some(Kind::Audio(Codec::Pcmu)),
            8 => Some(Kind::Audio(Codec::Pcma)),
            _ => None,
        };
        let known = |number: &u8| {
            let mapped = self.maps.iter().find(|map| map.payload_type == *number).map(|map| map.kind);
            mapped.or_else(|| fixed(*number)).map(|kind| Format { payload_type: *number, kind })
        };
        self.numbers.iter().filter_map(known).collect()
    }
}

/// Reads the value of `c=`; `Ok(None)` is the unspecified address.
fn connection(value: &str) -> Result<Option<IpAddr>, SdpError> {
    let mut words = value.split_ascii_whitespace();
    let (Some("IN"), Some("IP4" | "IP6"), Some(text), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(SdpError::NoAddress);
    };
    let ip: IpAddr = text.parse().map_err(|_| SdpError::NoAddress)?;
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    if ip.is_multicast() || broadcast { Err(SdpError::NoAddress) } else { Ok((!ip.is_unspecified()).then_some(ip)) }
}

/// Reads the value of `a=rtcp:`: a port, and perhaps an address (RFC 3605).
fn rtcp(value: &str) -> Option<(Option<IpAddr>, u16)> {
    let (port, rest) = value.split_once(' ').map_or((value, None), |(port, rest)| (port, Some(rest)));
    let ip = rest.map(connection).transpose().ok()?.flatten();
    Some((ip, port.trim().parse().ok().filter(|port| *port != 0)?))
}

fn rtpmap(value: &str) -> Option<Format> {
    let (number, encoding) = value.split_once(' ')?;
    let payload_type = number.trim().parse().ok().filter(|number| *number < 128)?;
    let encoding = encoding.trim().to_ascii_lowercase();
    let mut parts = encoding.split('/');
    let (name, clock) = (parts.next()?, parts.next()?.parse::<u32>().ok()?);
    let kind = match (name, clock) {
        ("pcmu", 8_000) => Kind::Audio(Codec::Pcmu),
        ("pcma", 8_000) => Kind::Audio(Codec::Pcma),
        ("opus", 48_000) => Kind::Audio(Codec::Opus),
        ("telephone-event", clock) => Kind::Events { clock },
        _ => return None,
    };
    Some(Format { payload_type, kind })
}

fn direction(name: &str) -> Option<Direction> {
    [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive]
        .into_iter()
        .find(|direction| direction.name() == name.trim())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn local(codecs: &[Codec]) -> Local {
        Local {
            session: 7,
            version: 1,
            address: "192.0.2.1:4000".parse().expect("an address"),
            codecs: codecs.to_vec(),
            crypto: Vec::new(),
            direction: Direction::SendRecv,
        }
    }

    fn key(tag: u32, suite: Suite) -> Crypto {
        Crypto { tag, suite, key: Zeroizing::new(vec![tag as u8; suite.key_len()]) }
    }

    fn parse(text: &str) -> Result<Description, SdpError> {
        Description::parse(text.replace('\n', "\r\n").as_bytes())
    }

    const ANSWER: &str = "v=0\no=- 1 1 IN IP4 198.51.100.7\ns=-\nc=IN IP4 198.51.100.7\nt=0 0\n";

    fn answer(rest: &str) -> Result<Media, SdpError> {
        let ours = local(&[Codec::Pcmu, Codec::Pcma, Codec::Opus]);
        ours.answered(&parse(&format!("{ANSWER}{rest}"))?)
    }

    #[test]
    fn an_offer_has_every_codec_and_events_of_its_clock() {
        let offer = local(&[Codec::Opus, Codec::Pcma]).offer();
        assert!(offer.contains("m=audio 4000 RTP/AVP 111 8 101 110\r\n"), "{offer}");
        assert!(offer.contains("a=rtpmap:101 telephone-event/8000\r\n"), "{offer}");
        assert!(offer.contains("a=rtpmap:110 telephone-event/48000\r\n"), "{offer}");
        assert!(!local(&[Codec::Pcmu]).offer().contains("48000"));
        assert!(!offer.contains("a=crypto"));
    }

    #[test]
    fn answers() {
        let media =
            answer("m=audio 6000 RTP/AVP 8 0 96\na=rtpmap:96 telephone-event/8000\na=ptime:30\n").expect("good");
        assert_eq!(media.codec(), Codec::Pcma);
        assert_eq!(media.send, marking(Codec::Pcma, 8, Some(96)));
        assert_eq!(media.receive, marking(Codec::Pcma, 8, Some(101)));
        assert_eq!((media.ptime, media.direction), (30, Direction::SendRecv));
        assert_eq!(media.remote, Some("198.51.100.7:6000".parse().expect("an address")));
        assert_eq!(media.remote_rtcp, Some("198.51.100.7:6001".parse().expect("an address")));

        let media = answer("m=audio 6000 RTP/AVP 120 0\na=rtpmap:120 OPUS/48000/2\na=rtcp:7001\n").expect("good");
        assert_eq!((media.codec(), media.send.audio, media.receive.audio), (Codec::Opus, 120, 111));
        assert_eq!((media.send.events, media.receive.events), (None, None));
        assert_eq!(media.remote_rtcp.map(|address| address.port()), Some(7001));

        for (rest, error) in [
            ("m=audio 6000 RTP/AVP 18\n", SdpError::NothingInCommon),
            ("m=audio 0 RTP/AVP 0\n", SdpError::NoAudio),
            ("m=video 6000 RTP/AVP 0\n", SdpError::NoAudio),
            ("m=audio 6000 udp 0\n", SdpError::NoAudio),
            ("m=audio 99999 RTP/AVP 0\n", SdpError::Malformed),
            ("m=audio 6000 RTP/AVP x\n", SdpError::Malformed),
            ("m=audio 6000 RTP/AVP 0\nc=IN IP4 239.1.1.1\n", SdpError::NoAddress),
            ("m=audio 6000 RTP/AVP 0\nc=IN IP4 pbx.example.com\n", SdpError::NoAddress),
            ("m=audio 1 RTP/AVP 0\nm=video 0 RTP/AVP 1\nm=audio 3 RTP/AVP 0\n", SdpError::TooManyMedia),
            ("m=audio 6000 RTP/SAVP 0\n", SdpError::NothingInCommon),
        ] {
            assert_eq!(answer(rest).expect_err(rest), error, "{rest}");
        }
        assert_eq!(parse("v=1\n").expect_err("a version"), SdpError::Malformed);
        assert_eq!(Description::parse(&vec![b'a'; MAX_BYTES + 1]).expect_err("long"), SdpError::TooLong);
        let nowhere = "v=0\ns=-\nm=audio 6000 RTP/AVP 0\n";
        assert_eq!(parse(nowhere).expect_err("no address"), SdpError::NoAddress);
    }

    #[test]
    fn holds_and_their_answers() {
        for (rest, holds, answered) in [
            ("m=audio 6000 RTP/AVP 0\n", false, Direction::SendRecv),
            ("m=audio 6000 RTP/AVP 0\na=sendonly\n", true, Direction::RecvOnly),
            ("m=audio 6000 RTP/AVP 0\na=recvonly\n", false, Direction::SendOnly),
            ("m=audio 6000 RTP/AVP 0\na=inactive\n", true, Direction::Inactive),
            ("m=audio 6000 RTP/AVP 0\nc=IN IP4 0.0.0.0\n", true, Direction::RecvOnly),
            ("a=inactive\nm=audio 6000 RTP/AVP 0\n", true, Direction::Inactive),
            ("a=inactive\nm=audio 6000 RTP/AVP 0\na=sendrecv\n", false, Direction::SendRecv),
        ] {
            let offer = parse(&format!("{ANSWER}{rest}")).expect(rest);
            assert_eq!(offer.holds(), holds, "{rest}");
            let (text, media) = local(&[Codec::Pcmu]).answer(&offer).expect(rest);
            assert_eq!(media.direction, answered, "{rest}");
            assert!(text.contains(&format!("a={}\r\n", answered.name())), "{rest}: {text}");
        }
        let ours = Local { direction: Direction::SendOnly, ..local(&[Codec::Pcmu]) };
        let offer = parse(&format!("{ANSWER}m=audio 6000 RTP/AVP 0\na=sendonly\n")).expect("good");
        assert_eq!(ours.answer(&offer).expect("good").1.direction, Direction::Inactive);
    }

    #[test]
    fn an_answer_keeps_the_order_of_media_and_refuses_the_rest() {
        let offer = "m=video 5000 RTP/AVP 31 32\nm=audio 6000 RTP/AVP 97 0\na=rtpmap:97 telephone-event/8000\n";
        let offer = parse(&format!("{ANSWER}{offer}")).expect("good");
        let (text, media) = local(&[Codec::Pcma, Codec::Pcmu]).answer(&offer).expect("good");
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with("m=")).collect();
        assert_eq!(lines, ["m=video 0 RTP/AVP 31", "m=audio 4000 RTP/AVP 0 97"]);
        assert_eq!((media.codec(), media.send.events), (Codec::Pcmu, Some(97)));
    }

    #[test]
    fn keys_are_exchanged_or_the_call_is_refused() {
        let mut ours = local(&[Codec::Pcmu]);
        ours.crypto = vec![key(1, Suite::AeadAes128Gcm), key(2, Suite::AesCm128HmacSha1_80)];
        let offer = Description::parse(ours.offer().as_bytes()).expect("our own");
        assert_eq!(offer.crypto, ours.crypto);

        let mut theirs = local(&[Codec::Pcmu]);
        theirs.crypto = vec![key(9, Suite::AesCm128HmacSha1_80)];
        let (answer, media) = theirs.answer(&offer).expect("one suite in common");
        assert!(answer.contains("RTP/SAVP 0 101") && answer.contains("a=crypto:2 AES_CM_128_HMAC_SHA1_80"), "{answer}");
        let (sent, received) = media.crypto.expect("keys");
        assert_eq!((sent.key[0], received.key[0]), (9, 2));
        let agreed = ours.answered(&Description::parse(answer.as_bytes()).expect("good")).expect("good");
        assert_eq!(agreed.crypto.map(|(sent, received)| (sent.key[0], received.key[0])), Some((2, 9)));

        let plain = parse(&format!("{ANSWER}m=audio 6000 RTP/AVP 0\n")).expect("good");
        assert_eq!(ours.answered(&plain).expect_err("no key"), SdpError::NothingInCommon);
        assert_eq!(local(&[Codec::Pcmu]).answer(&offer).expect_err("no key of ours"), SdpError::NothingInCommon);
        assert!(Crypto::parse("1 AES_CM_128_HMAC_SHA1_32 inline:AAAA").is_none());
        assert!(!format!("{:?}", ours.crypto).contains("key"));
    }

    /// A description that has everything, damaged: bytes replaced, removed, doubled.
    fn damaged() -> impl Strategy<Value = Vec<u8>> {
        let mut whole = local(&[Codec::Opus, Codec::Pcmu]);
        whole.crypto = vec![key(1, Suite::AeadAes128Gcm)];
        let text = format!("{}a=rtcp:7 IN IP6 ::1\nm=video 1/2 RTP/AVP 3\n", whole.offer()).into_bytes();
        let change = (0..text.len(), any::<u8>(), 0..4usize);
        prop::collection::vec(change, 0..12).prop_map(move |changes| {
            let mut bytes = text.clone();
            for (at, byte, kind) in changes {
                let at = at % bytes.len().max(1);
                match kind {
                    0 if at < bytes.len() => bytes[at] = byte,
                    1 if at < bytes.len() => drop(bytes.remove(at)),
                    2 => bytes.truncate(at),
                    _ => bytes.extend_from_within(at.min(bytes.len())..),
                }
                if bytes.is_empty() {
                    break;
                }
            }
            bytes
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(50_000))]

        #[test]
        fn damaged_descriptions_never_panic(bytes in damaged()) {
            if let Ok(description) = Description::parse(&bytes) {
                let mut ours = local(&[Codec::Pcmu, Codec::Opus]);
                let _ = ours.answered(&description);
                ours.crypto = vec![key(1, Suite::AeadAes128Gcm)];
                if let Ok((answer, _)) = ours.answer(&description) {
                    prop_assert!(Description::parse(answer.as_bytes()).is_ok(), "{}", answer);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn what_we_offer_we_can_read(pcmu: bool, pcma: bool, version: u64, port in 1u16..) {
            let codecs: Vec<_> = [(pcmu, Codec::Pcmu), (pcma, Codec::Pcma), (true, Codec::Opus)]
                .into_iter().filter_map(|(there, codec)| there.then_some(codec)).collect();
            let mut ours = local(&codecs);
            ours.version = version;
            ours.address.set_port(port);
            let media = ours.answered(&Description::parse(ours.offer().as_bytes()).expect("ours")).expect("ours");
            prop_assert_eq!(media.codec(), codecs[0]);
            prop_assert_eq!(media.remote, Some(ours.address));
            prop_assert_eq!(media.send, media.receive);
        }
    }
}
