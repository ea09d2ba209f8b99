//! How a call sounds: what arrived of each stream (RFC 3550, appendix A), and what people would say of it (the E-model,
//! ITU-T G.107).

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::{
    control,
    rtp::{Codec, PTIME, Packet, clock_rate},
};

/// How often a leg is judged.
pub const INTERVAL: Duration = Duration::from_secs(2);

/// Forward, a jump of this many packets is a new beginning; backward, one of that many (RFC 3550, appendix A.1).
const MAX_DROPOUT: u16 = 3_000;
const MAX_MISORDER: u16 = 100;

/// How packets of one direction fared, over the whole call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flow {
    /// Packets that arrived, or were sent.
    pub packets: u64,
    /// Packets that did not; duplicates can make it less than it was.
    pub lost: i64,
    /// Interarrival jitter (RFC 3550, section 6.4.1).
    pub jitter: Duration,
}

/// Counts what arrives of a leg's stream, through every change of its source.
#[derive(Clone, Debug)]
pub struct Reception {
    clock: u32,
    stream: Option<Stream>,
    packets: u64,
    /// Packets that streams before this one should have had.
    expected_before: i64,
    /// In ticks.
    jitter: f64,
}

/// The state of a reception, as reports say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The stream that is heard now.
    pub ssrc: u32,
    /// Its highest packet number, counted on beyond 2^16.
    pub highest: u32,
    /// Packets that should have come, of it and of those before.
    pub expected: i64,
    /// Packets that came.
    pub packets: i64,
    /// Interarrival jitter in ticks.
    pub jitter: u32,
}

#[derive(Clone, Debug)]
struct Stream {
    ssrc: u32,
    /// Packet numbers counted on beyond 2^16: the first and the highest.
    first: i64,
    highest: i64,
    /// The last packet: when it came, what its timestamp was.
    last: (Instant, u32),
}

impl Reception {
    /// For a stream of `codec`.
    pub fn new(codec: Codec) -> Self {
        Self { clock: clock_rate(codec), stream: None, packets: 0, expected_before: 0, jitter: 0.0 }
    }

    /// A packet arrived.
    pub fn packet(&mut self, packet: &Packet, now: Instant) {
        self.packets += 1;
        match &mut self.stream {
            Some(stream) if stream.continues(packet) => {
                stream.count(packet.sequence);
                let deviation = stream.deviation(packet.timestamp, now, self.clock);
                self.jitter += (deviation - self.jitter) / 16.0;
            }
            _ => {
                self.expected_before += self.stream.as_ref().map_or(0, Stream::expected);
                let first = i64::from(packet.sequence);
                let last = (now, packet.timestamp);
                self.stream = Some(Stream { ssrc: packet.ssrc, first, highest: first, last });
            }
        }
    }

    /// What a report block says of it (RFC 3550, section 6.4.1); `None`: nothing was heard.
    pub fn heard(&self) -> Option<Heard> {
        let stream = self.stream.as_ref()?;
        Some(Heard {
            ssrc: stream.ssrc,
            // `as` truncates: the block has room for 32 bits.
            highest: stream.highest as u32,
            expected: self.expected_before + stream.expected(),
            packets: i64::try_from(self.packets).unwrap_or(i64::MAX),
            jitter: self.jitter as u32,
        })
    }

    /// What arrived so far.
    pub fn flow(&self) -> Flow {
        let expected = self.expected_before + self.stream.as_ref().map_or(0, Stream::expected);
        let packets = i64::try_from(self.packets).unwrap_or(i64::MAX);
        let jitter = Duration::from_secs_f64(self.jitter / f64::from(self.clock));
        Flow { packets: self.packets, lost: expected - packets, jitter }
    }
}

impl Stream {
    /// Appendix A.3.
    fn expected(&self) -> i64 {
        self.highest - self.first + 1
    }

    /// Whether a packet's number follows the stream's. Appendix A.1, without its probation, which is over when a packet
    /// comes here.
    fn continues(&self, packet: &Packet) -> bool {
        let ahead = self.ahead(packet.sequence);
        packet.ssrc == self.ssrc && (ahead < MAX_DROPOUT || ahead.wrapping_neg() <= MAX_MISORDER)
    }

    fn count(&mut self, sequence: u16) {
        let ahead = self.ahead(sequence);
        if ahead < MAX_DROPOUT {
            self.highest += i64::from(ahead);
        }
    }

    fn ahead(&self, sequence: u16) -> u16 {
        // `as` truncates: the number modulo 2^16.
        sequence.wrapping_sub(self.highest as u16)
    }

    /// How much later or earlier than the last packet this one is than their timestamps say, in ticks. Appendix A.8.
    fn deviation(&mut self, timestamp: u32, now: Instant, clock: u32) -> f64 {
        let (then, before) = std::mem::replace(&mut self.last, (now, timestamp));
        let arrived = now.saturating_duration_since(then).as_secs_f64() * f64::from(clock);
        // `as` reinterprets: a packet that was overtaken has an earlier timestamp.
        let taken = timestamp.wrapping_sub(before) as i32;
        (arrived - f64::from(taken)).abs()
    }
}

/// The middle 32 bits of an NTP time (RFC 3550, section 4) for a time since the Unix epoch.
pub fn ntp_middle(since_epoch: Duration) -> u32 {
    // The whole seconds' offset of both epochs; only the lower 16 bits of the sum count.
    let seconds = since_epoch.as_secs().wrapping_add(2_208_988_800);
    let fraction = (u64::from(since_epoch.subsec_nanos()) << 16) / 1_000_000_000;
    // `as` truncates to the middle.
    (seconds << 16 | fraction) as u32
}

/// The round-trip time that a report block tells (RFC 3550, section 6.4.1): when it came, which of our sender reports it
/// saw last, and how long ago that was. `None`: it saw none, or its numbers make no sense.
pub fn round_trip(arrived: u32, last_report: u32, delay: u32) -> Option<Duration> {
    let took = arrived.wrapping_sub(last_report).wrapping_sub(delay);
    let sensible = last_report != 0 && took < u32::MAX / 2;
    sensible.then(|| Duration::from_secs_f64(f64::from(took) / 65_536.0))
}

/// What the network did to one leg since the last report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// Mean opinion score, 1 to 4.5.
    pub mos: f64,
    /// Share of packets lost, 0 to 1.
    pub loss: f64,
    /// Interarrival jitter.
    pub jitter: Duration,
    /// Round-trip time, once it is known.
    pub rtt: Option<Duration>,
}

impl Report {
    /// For the widget: the score is that of the call, which is no better than its worse leg.
    pub fn for_widget(&self, other: Option<&Self>) -> control::Quality {
        let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let mos = other.map_or(self.mos, |other| self.mos.min(other.mos));
        control::Quality {
            mos: rounded(mos, 100.0),
            rtt_ms: self.rtt.map(millis),
            jitter_ms: millis(self.jitter),
            loss: rounded(self.loss, 10_000.0),
        }
    }
}

fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

/// Judges one leg, report by report.
#[derive(Clone, Debug)]
pub struct Meter {
    codec: Codec,
    before: Flow,
    reports: u32,
    mos: Spread,
    jitter: Spread,
    rtt: Spread,
}

/// Mean and worst of some values.
#[derive(Clone, Copy, Debug, Default)]
struct Spread {
    count: u32,
    sum: f64,
    worst: f64,
}

impl Spread {
    fn add(&mut self, value: f64, worse: fn(f64, f64) -> f64) {
        self.worst = if self.count == 0 { value } else { worse(self.worst, value) };
        self.sum += value;
        self.count += 1;
    }

    fn mean(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / f64::from(self.count))
    }
}

impl Meter {
    /// For a leg that speaks `codec`.
    pub fn new(codec: Codec) -> Self {
        let none = Spread::default();
        Self { codec, before: Flow::default(), reports: 0, mos: none, jitter: none, rtt: none }
    }

    /// Judges what happened since the last report. `None`: nothing was to arrive, as on hold.
    pub fn report(&mut self, flow: Flow, rtt: Option<Duration>) -> Option<Report> {
        let before = std::mem::replace(&mut self.before, flow);
        let arrived = flow.packets.saturating_sub(before.packets);
        let lost = u64::try_from(flow.lost - before.lost).unwrap_or(0);
        if arrived + lost == 0 {
            return None;
        }
        let loss = lost as f64 / (arrived + lost) as f64;
        let mos = mos(rating(self.codec, loss, mouth_to_ear(flow.jitter, rtt)));
        self.reports += 1;
        self.mos.add(mos, f64::min);
        self.jitter.add(flow.jitter.as_secs_f64(), f64::max);
        if let Some(rtt) = rtt {
            self.rtt.add(rtt.as_secs_f64(), f64::max);
        }
        Some(Report { mos, loss, jitter: flow.jitter, rtt })
    }

    /// The whole call, for its row. `None`: nothing was ever judged.
    pub fn summary(&self) -> Option<Summary> {
        let millis = |seconds: f64| (seconds * 1_000.0).round() as u32;
        let lost = u64::try_from(self.before.lost).unwrap_or(0);
        Some(Summary {
            mos: rounded(self.mos.mean()?, 100.0),
            worst_mos: rounded(self.mos.worst, 100.0),
            loss: rounded(lost as f64 / (self.before.packets + lost).max(1) as f64, 10_000.0),
            jitter_ms: millis(self.jitter.mean()?),
            worst_jitter_ms: millis(self.jitter.worst),
            rtt_ms: self.rtt.mean().map(millis),
            worst_rtt_ms: self.rtt.mean().map(|_| millis(self.rtt.worst)),
        })
    }
}

/// How one leg sounded over the whole call.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Mean of the reports' scores.
    pub mos: f64,
    /// The worst report's.
    pub worst_mos: f64,
    /// Share of packets lost, 0 to 1.
    pub loss: f64,
    /// Mean jitter.
    pub jitter_ms: u32,
    /// The worst report's.
    pub worst_jitter_ms: u32,
    /// Mean round-trip time, if it was ever known.
    pub rtt_ms: Option<u32>,
    /// The worst report's.
    pub worst_rtt_ms: Option<u32>,
}

/// How long a word takes from mouth to ear, as far as this leg goes: half the round trip, one packet, and the receiver's
/// jitter buffer, which holds about two jitters and rarely less than 40 ms.
fn mouth_to_ear(jitter: Duration, rtt: Option<Duration>) -> Duration {
    rtt.unwrap_or_default() / 2 + PTIME + (jitter * 2).max(Duration::from_millis(40))
}

/// The transmission rating R, 0 to 100 (ITU-T G.107 (06/2015), section 7.1): all but delay and loss at their defaults
/// (section 7.7), which leaves 93.2 of 100.
pub fn rating(codec: Codec, loss: f64, delay: Duration) -> f64 {
    let (ie, bpl) = robustness(codec);
    let percent = 100.0 * loss.clamp(0.0, 1.0);
    // Section 7.5, for losses that do not depend on each other (BurstR = 1).
    let loss_impairment = ie + (95.0 - ie) * percent / (percent + bpl);
    (93.2 - delay_impairment(delay) - loss_impairment).clamp(0.0, 100.0)
}

/// Idd of G.107, section 7.4: what delay alone does to a conversation. No echo: browsers cancel it.
fn delay_impairment(delay: Duration) -> f64 {
    let millis = delay.as_secs_f64() * 1_000.0;
    if millis <= 100.0 {
        return 0.0;
    }
    let x = (millis / 100.0).log2();
    25.0 * ((1.0 + x.powi(6)).powf(1.0 / 6.0) - 3.0 * (1.0 + (x / 3.0).powi(6)).powf(1.0 / 6.0) + 2.0)
}

/// The equipment impairment factor Ie and the packet-loss robustness factor Bpl (ITU-T G.113, appendix I): G.711 with
/// concealment, which every receiver here has. For Opus on this narrow-band scale none are published; it is taken to be no
/// worse.
fn robustness(codec: Codec) -> (f64, f64) {
    match codec {
        Codec::Pcmu | Codec::Pcma | Codec::Opus => (0.0, 25.1),
    }
}

/// The mean opinion score of a conversation rated R (G.107, annex B).
pub fn mos(rating: f64) -> f64 {
    let r = rating.clamp(0.0, 100.0);
    // Below R = 6.5 the polynomial dips under the scale.
    (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).max(1.0)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn near(a: f64, b: f64, tolerance: f64) -> bool {
        (a - b).abs() <= tolerance
    }

    /// G.107, annex B, table B.1, and the default of section 7.7. The table rounds 80 up: the formula gives 4.024.
    #[test]
    fn scores_of_the_recommendation() {
        for (rating, score) in [(93.2, 4.41), (90.0, 4.34), (80.0, 4.03), (70.0, 3.60), (60.0, 3.10), (50.0, 2.58)] {
            assert!(near(mos(rating), score, 0.01), "{rating}: {}", mos(rating));
        }
        assert_eq!((mos(0.0), mos(5.0), mos(100.0), mos(-9.0), mos(999.0)), (1.0, 1.0, 4.5, 1.0, 4.5));
    }

    /// Columns: loss in percent, delay in ms, R. Worked out by hand from the formulas of sections 7.4 and 7.5.
    #[test]
    fn ratings() {
        for (percent, delay, expected) in [
            (0.0, 0, 93.2),
            (0.0, 100, 93.2),
            (0.0, 200, 90.156),
            (0.0, 400, 69.131),
            (1.0, 0, 89.560),
            (5.0, 0, 77.419),
            (25.1, 0, 45.7),
            (100.0, 1_000, 0.0),
        ] {
            let r = rating(Codec::Pcmu, percent / 100.0, ms(delay));
            assert!(near(r, expected, 0.01), "{percent} % {delay} ms: {r}");
        }
    }

    #[test]
    fn round_trips() {
        // RFC 3550, section 6.4.1, figure 2.
        let took = round_trip(0xb710_8000, 0xb705_2000, 0x0005_4000).expect("sensible");
        assert_eq!(took, Duration::from_secs_f64(6.125));
        assert_eq!(round_trip(0x10000, 0, 0), None, "no report of ours was seen");
        assert_eq!(round_trip(0x10000, 0x20000, 0), None, "from the future");
        assert_eq!(round_trip(5, u32::MAX - 4, 0), Some(Duration::from_secs_f64(10.0 / 65_536.0)));
        // The time of the same figure's sender report: 10 November 1995, 11:33:25.125 UTC.
        assert_eq!(ntp_middle(ms(816_003_205_125)), 0xb705_2000);
        assert_eq!(ntp_middle(ms(500)), 2_208_988_800u64.wrapping_shl(16) as u32 | 0x8000);
    }

    fn packet(ssrc: u32, sequence: u16, timestamp: u32) -> Packet {
        Packet { payload_type: 0, marker: false, sequence, timestamp, ssrc, payload: Bytes::new() }
    }

    /// Columns: packets (SSRC, sequence); how many arrived, how many were lost.
    #[test]
    fn what_arrived() {
        type Sent = (u32, u16);
        type Counted = (u64, i64);
        let cases: [(&[Sent], Counted); 8] = [
            (&[], (0, 0)),
            (&[(1, 7)], (1, 0)),
            (&[(1, 65_534), (1, 65_535), (1, 0), (1, 3)], (4, 2)),
            (&[(1, 10), (1, 12), (1, 11)], (3, 0)),
            (&[(1, 10), (1, 10), (1, 11)], (3, -1)),
            (&[(1, 10), (1, 12), (2, 500), (2, 503)], (4, 3)),
            (&[(1, 10), (1, 12), (1, 30_000), (1, 30_001)], (4, 1)),
            (&[(1, 200), (1, 100), (1, 201)], (3, -1)),
        ];
        for (number, (packets, (arrived, lost))) in cases.into_iter().enumerate() {
            let mut reception = Reception::new(Codec::Pcmu);
            for (ssrc, sequence) in packets {
                reception.packet(&packet(*ssrc, *sequence, 0), Instant::now());
            }
            let flow = reception.flow();
            assert_eq!((flow.packets, flow.lost), (arrived, lost), "case {number}");
        }
    }

    #[test]
    fn jitter_on_each_clock() {
        for codec in [Codec::Pcma, Codec::Opus] {
            let step = clock_rate(codec) / 50;
            let (mut steady, mut shaken) = (Reception::new(codec), Reception::new(codec));
            let mut now = Instant::now();
            for number in 0..500u16 {
                let given = packet(1, number, step * u32::from(number));
                steady.packet(&given, now);
                // Every other packet comes 8 ms late: each distance is 8 ms off.
                shaken.packet(&given, now + ms(8 * u64::from(number % 2)));
                now += ms(20);
            }
            assert!(steady.flow().jitter < Duration::from_micros(10), "{codec:?}");
            assert!(near(shaken.flow().jitter.as_secs_f64(), 0.008, 1e-5), "{codec:?} {:?}", shaken.flow());
        }
    }

    #[test]
    fn jitter_follows_by_a_sixteenth() {
        let (mut reception, start) = (Reception::new(Codec::Pcmu), Instant::now());
        reception.packet(&packet(1, 0, 0), start);
        reception.packet(&packet(1, 1, 160), start + ms(36));
        assert_eq!(reception.flow().jitter, ms(1));
    }

    #[test]
    fn reports_and_their_summary() {
        let mut meter = Meter::new(Codec::Pcmu);
        assert_eq!((meter.report(Flow::default(), None), meter.summary()), (None, None));
        let flow = |packets, lost, jitter| Flow { packets, lost, jitter: ms(jitter) };

        let good = meter.report(flow(100, 0, 5), None).expect("packets");
        assert!(near(good.mos, 4.41, 0.005) && good.loss == 0.0 && good.rtt.is_none());
        let bad = meter.report(flow(195, 5, 30), Some(ms(100))).expect("packets");
        assert!(near(bad.loss, 0.05, 1e-9) && near(bad.mos, mos(rating(Codec::Pcmu, 0.05, ms(130))), 1e-9));
        assert_eq!(meter.report(flow(195, 5, 30), Some(ms(100))), None, "on hold");
        // A packet given up for lost came after all.
        let late = meter.report(flow(296, 4, 10), Some(ms(60))).expect("packets");
        assert_eq!(late.loss, 0.0);

        let summary = meter.summary().expect("reports");
        assert_eq!(summary.worst_mos, rounded(bad.mos, 100.0));
        assert_eq!(summary.mos, rounded((good.mos + bad.mos + late.mos) / 3.0, 100.0));
        assert_eq!((summary.loss, summary.jitter_ms, summary.worst_jitter_ms), (0.0133, 15, 30));
        assert_eq!((summary.rtt_ms, summary.worst_rtt_ms), (Some(80), Some(100)));

        let told = good.for_widget(Some(&bad));
        assert_eq!((told.mos, told.rtt_ms, told.jitter_ms, told.loss), (rounded(bad.mos, 100.0), None, 5, 0.0));
    }

    proptest! {
        #[test]
        fn worse_networks_never_sound_better(loss in 0.0..1.0f64, more in 0.0..1.0f64, delay in 0..2_000u64, longer in 0..2_000u64) {
            let score = |loss, delay| mos(rating(Codec::Opus, loss, ms(delay)));
            let at = score(loss, delay);
            prop_assert!((1.0..=4.5).contains(&at));
            prop_assert!(score((loss + more).min(1.0), delay) <= at + 1e-9);
            prop_assert!(score(loss, delay + longer) <= at + 1e-9);
        }

        #[test]
        fn nothing_makes_it_panic(packets in prop::collection::vec((1..3u32, any::<u16>(), any::<u32>(), 0..5_000u64), 0..100)) {
            let (mut reception, mut meter, mut now) = (Reception::new(Codec::Opus), Meter::new(Codec::Opus), Instant::now());
            for (ssrc, sequence, timestamp, pause) in packets {
                now += ms(pause);
                reception.packet(&packet(ssrc, sequence, timestamp), now);
                let flow = reception.flow();
                if let Some(report) = meter.report(flow, round_trip(timestamp, u32::from(sequence), 0)) {
                    prop_assert!((0.0..=1.0).contains(&report.loss) && (1.0..=4.5).contains(&report.mos));
                }
            }
        }
    }
}
