//! MPEG-TS: elementary streams in packets of 188 bytes (ISO/IEC 13818-1), written by the crate `mpeg2ts`.
//!
//! In: frames with their times. Out: the bytes of one segment, which begins with its tables. Absent: the end of a
//! segment, see `segment.rs`; the content of the frames.

use mpeg2ts::Error;
use mpeg2ts::es::{StreamId, StreamType};
use mpeg2ts::pes::PesHeader;
use mpeg2ts::time::{ClockReference, Timestamp};
use mpeg2ts::ts::payload::{Bytes as Chunk, Pat, Pes, Pmt};
use mpeg2ts::ts::{
    AdaptationField, ContinuityCounter, EsInfo, Pid, ProgramAssociation,
    TransportScramblingControl, TsHeader, TsPacket, TsPacketWriter, TsPayload, VersionNumber,
    WriteTsPacket,
};

const MAP_PID: u16 = 0x1000;
const VIDEO_PID: u16 = 0x100;
const AUDIO_PID: u16 = 0x101;
const PROGRAM: u16 = 1;

/// Bytes of a packet after its header.
const PAYLOAD_BYTES: usize = TsPacket::SIZE - 4;
/// Bytes of an adaptation field with a clock reference.
const CLOCK_FIELD_BYTES: usize = 8;
/// Delay of the frames against the clock, ms, so that each frame arrives before it is due.
const DELAY: i64 = 700;

/// One of the two elementary streams of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TrackKind {
    Video,
    Audio,
}

/// A frame to be written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) track: TrackKind,
    /// Decoding time, ms.
    pub(super) time: u32,
    /// From decoding to presentation, ms.
    pub(super) composition: i32,
    /// Whether a decoder can begin here.
    pub(super) is_key: bool,
    pub(super) data: &'a [u8],
}

/// Continuity counters, which continue from segment to segment.
#[derive(Debug, Default)]
pub(super) struct ContinuityCounters {
    pat: ContinuityCounter,
    map: ContinuityCounter,
    video: ContinuityCounter,
    audio: ContinuityCounter,
}

/// The packets of one segment.
#[derive(Debug)]
pub(super) struct PacketWriter {
    /// The stream that carries the clock.
    leader: TrackKind,
    out: TsPacketWriter<Vec<u8>>,
}

impl PacketWriter {
    pub(super) fn new(leader: TrackKind) -> Self {
        Self { leader, out: TsPacketWriter::new(Vec::new()) }
    }

    pub(super) fn leader(&self) -> TrackKind {
        self.leader
    }

    pub(super) fn len(&self) -> usize {
        self.out.stream().len()
    }

    /// Bytes of memory of the packets.
    pub(super) fn memory(&self) -> usize {
        self.out.stream().capacity()
    }

    /// Appends a frame. It fails only for frames that are longer than the bounds of the relay allow.
    pub(super) fn push(
        &mut self,
        counters: &mut ContinuityCounters,
        frame: Frame<'_>,
    ) -> Result<(), Error> {
        let decoded = i64::from(frame.time) + DELAY;
        let shown = decoded + i64::from(frame.composition);
        let (pid, counter, stream_id) = match frame.track {
            TrackKind::Video => {
                (VIDEO_PID, &mut counters.video, StreamId::new_video(StreamId::VIDEO_MIN)?)
            }
            TrackKind::Audio => {
                (AUDIO_PID, &mut counters.audio, StreamId::new_audio(StreamId::AUDIO_MIN)?)
            }
        };
        let header = PesHeader {
            stream_id,
            priority: false,
            data_alignment_indicator: true,
            copyright: false,
            original_or_copy: false,
            pts: Some(stamp(shown)?),
            dts: if shown == decoded { None } else { Some(stamp(decoded)?) },
            escr: None,
        };
        let adaptation =
            (frame.track == self.leader).then(|| clock(frame.time, frame.is_key)).transpose()?;
        let optional = 3 + 5 + header.dts.map_or(0, |_| 5);
        let first =
            PAYLOAD_BYTES - adaptation.as_ref().map_or(0, |_| CLOCK_FIELD_BYTES) - 6 - optional;
        let (data, mut rest) = frame.data.split_at(first.min(frame.data.len()));
        let start = Pes {
            header,
            // For video the length may be left open.
            pes_packet_len: u16::try_from(optional + frame.data.len()).unwrap_or(0),
            data: Chunk::new(data)?,
        };
        self.put(pid, counter, adaptation, TsPayload::PesStart(start))?;
        while !rest.is_empty() {
            let (data, behind) = rest.split_at(PAYLOAD_BYTES.min(rest.len()));
            rest = behind;
            self.put(pid, counter, None, TsPayload::PesContinuation(Chunk::new(data)?))?;
        }
        Ok(())
    }

    fn put(
        &mut self,
        pid: u16,
        counter: &mut ContinuityCounter,
        adaptation_field: Option<AdaptationField>,
        payload: TsPayload,
    ) -> Result<(), Error> {
        let packet = packet(pid, counter, adaptation_field, payload)?;
        self.out.write_ts_packet(&packet)
    }

    /// The complete segment: the tables for its streams, then the packets.
    pub(super) fn finish(
        self,
        counters: &mut ContinuityCounters,
        video: Option<StreamType>,
        audio: Option<StreamType>,
    ) -> Result<Vec<u8>, Error> {
        let mut tables = TsPacketWriter::new(Vec::with_capacity(2 * TsPacket::SIZE + self.len()));
        let pat = Pat {
            transport_stream_id: 1,
            version_number: VersionNumber::default(),
            table: vec![ProgramAssociation {
                program_num: PROGRAM,
                program_map_pid: Pid::new(MAP_PID)?,
            }],
        };
        tables.write_ts_packet(&packet(0, &mut counters.pat, None, TsPayload::Pat(pat))?)?;
        let streams = [video.map(|it| (it, VIDEO_PID)), audio.map(|it| (it, AUDIO_PID))];
        let info = |(stream_type, pid)| {
            Ok(EsInfo { stream_type, elementary_pid: Pid::new(pid)?, descriptors: Vec::new() })
        };
        let clock = match self.leader {
            TrackKind::Video => VIDEO_PID,
            TrackKind::Audio => AUDIO_PID,
        };
        let map = Pmt {
            program_num: PROGRAM,
            pcr_pid: Some(Pid::new(clock)?),
            version_number: VersionNumber::default(),
            program_info: Vec::new(),
            es_info: streams.into_iter().flatten().map(info).collect::<Result<_, Error>>()?,
        };
        tables.write_ts_packet(&packet(MAP_PID, &mut counters.map, None, TsPayload::Pmt(map))?)?;
        let mut bytes = tables.into_stream();
        bytes.extend_from_slice(self.out.stream());
        Ok(bytes)
    }
}

fn packet(
    pid: u16,
    counter: &mut ContinuityCounter,
    adaptation_field: Option<AdaptationField>,
    payload: TsPayload,
) -> Result<TsPacket, Error> {
    let header = TsHeader {
        transport_error_indicator: false,
        transport_priority: false,
        pid: Pid::new(pid)?,
        transport_scrambling_control: TransportScramblingControl::NotScrambled,
        continuity_counter: *counter,
    };
    counter.increment();
    Ok(TsPacket { header, adaptation_field, payload: Some(payload) })
}

fn clock(time: u32, is_key: bool) -> Result<AdaptationField, Error> {
    let ticks = (u64::from(time) * 90) & Timestamp::MAX;
    Ok(AdaptationField {
        discontinuity_indicator: false,
        random_access_indicator: is_key,
        es_priority_indicator: false,
        pcr: Some(ClockReference::new(ticks * 300)?),
        opcr: None,
        splice_countdown: None,
        transport_private_data: Vec::new(),
        extension: None,
    })
}

/// Converts milliseconds to the 90 kHz clock, which wraps.
fn stamp(time: i64) -> Result<Timestamp, Error> {
    Timestamp::new((time * 90).cast_unsigned() & Timestamp::MAX)
}
