//! What the browser reports of our audio. The library reads these reports and keeps nothing of them (0.21.1), so they are
//! read here, on their way past.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rtc::{
    interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket},
    rtcp::{receiver_report::ReceiverReport, reception_report::ReceptionReport, sender_report::SenderReport},
    sansio::Protocol,
    shared::error::Error,
};

/// Sender reports remembered: a report about one comes within seconds.
const REMEMBERED: usize = 8;

/// What was last reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reported {
    /// From a sender report of ours to the report about it, less what the browser waited.
    pub(super) round_trip: Option<Duration>,
    /// Packets lost in all; negative when some arrived twice.
    pub(super) lost: i64,
    /// In units of the codec's clock.
    pub(super) jitter: u32,
}

/// Reads reports about one stream.
#[derive(Debug)]
struct Reader {
    ssrc: u32,
    /// The middle of the NTP time of our sender reports, by which reports name them, and when they left.
    left: VecDeque<(u32, Instant)>,
    last: Reported,
}

impl Reader {
    fn leaves(&mut self, report: &SenderReport, now: Instant) {
        if self.left.len() == REMEMBERED {
            self.left.pop_front();
        }
        // The middle 32 of 64 bits (RFC 3550, section 6.4.1).
        self.left.push_back(((report.ntp_time >> 16) as u32, now));
    }

    fn comes(&mut self, report: &ReceptionReport, now: Instant) {
        if report.ssrc != self.ssrc {
            return;
        }
        // 24 bits with a sign.
        self.last.lost = i64::from(((report.total_lost << 8) as i32) >> 8);
        self.last.jitter = report.jitter;
        let left = self.left.iter().find(|(named, _)| *named == report.last_sender_report);
        if let Some((_, left)) = left {
            let waited = Duration::from_secs_f64(f64::from(report.delay) / 65_536.0);
            self.last.round_trip = Some(now.saturating_duration_since(*left).saturating_sub(waited));
        }
    }
}

/// The library's hook: looks at every packet and changes none.
pub(super) struct Reports {
    reader: Arc<Mutex<Reader>>,
    read: VecDeque<TaggedPacket>,
    written: VecDeque<TaggedPacket>,
}

/// Where what was read can be asked for.
#[derive(Clone)]
pub(super) struct Latest(Arc<Mutex<Reader>>);

impl Latest {
    pub(super) fn get(&self) -> Reported {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last
    }
}

impl Reports {
    /// A hook for what is reported about the stream `ssrc`.
    pub(super) fn about(ssrc: u32) -> (Self, Latest) {
        let reader = Arc::new(Mutex::new(Reader { ssrc, left: VecDeque::new(), last: Reported::default() }));
        (Self { reader: reader.clone(), read: VecDeque::new(), written: VecDeque::new() }, Latest(reader))
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Reports {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(reports) = &packet.message.packet {
            let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            for report in reports.iter().map(|report| report.as_any()) {
                let sender = report.downcast_ref::<SenderReport>().map(|report| &report.reports);
                let receiver = report.downcast_ref::<ReceiverReport>().map(|report| &report.reports);
                sender.or(receiver).into_iter().flatten().for_each(|report| reader.comes(report, packet.now));
            }
        }
        self.read.push_back(packet);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(reports) = &packet.message.packet {
            let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            let reports = reports.iter().filter_map(|report| report.as_any().downcast_ref::<SenderReport>());
            reports.for_each(|report| reader.leaves(report, packet.now));
        }
        self.written.push_back(packet);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.written.pop_front()
    }
}

impl Interceptor for Reports {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_tells_the_round_trip_the_loss_and_the_jitter() {
        let mut reader = Reader { ssrc: 7, left: VecDeque::new(), last: Reported::default() };
        let began = Instant::now();
        reader.leaves(&SenderReport { ntp_time: 0x1234_5678_9abc_def0, ..SenderReport::default() }, began);
        let report = ReceptionReport {
            ssrc: 7,
            total_lost: 3,
            jitter: 16,
            last_sender_report: 0x5678_9abc,
            delay: 65_536 / 2,
            ..ReceptionReport::default()
        };
        reader.comes(&ReceptionReport { ssrc: 8, ..report.clone() }, began);
        assert_eq!(reader.last, Reported::default(), "about another stream");
        reader.comes(&report, began + Duration::from_millis(540));
        assert_eq!(reader.last, Reported { round_trip: Some(Duration::from_millis(40)), lost: 3, jitter: 16 });

        let late = ReceptionReport { last_sender_report: 1, total_lost: 0xff_ffff, ..report };
        reader.comes(&late, began + Duration::from_secs(9));
        assert_eq!(reader.last.lost, -1, "one packet arrived twice");
        assert_eq!(reader.last.round_trip, Some(Duration::from_millis(40)), "about a report that nobody remembers");
    }
}
