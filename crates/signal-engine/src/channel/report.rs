//! Reports of a client on its media component. Comes in: `report`. Goes out: figures that are plausible. Deliberately
//! absent: their meaning (`quality`).

use lianmai_protocol::limits::MAX_REPORT_BYTES;
use lianmai_protocol::message::session::{Report, ReportDir, ReportType};
use lianmai_protocol::{ErrorName, RpcError, UserId};
use serde_json::{Map, Value};

use super::flow::{Figures, FlowKey};
use super::{Channel, CommandResult, Reply};
use crate::context::Context;

/// The greatest plausible figures: of kbit/s, of frames per second, of milliseconds.
const MAX_KBPS: u64 = 1_000_000;
const MAX_FPS: u64 = 1_000;
const MAX_RTT_MS: u64 = 600_000;
/// The worst level.
const MAX_LEVEL: u64 = 6;
/// Codes have at most six digits.
const CODES: std::ops::RangeInclusive<i64> = -999_999..=999_999;

impl Channel {
    /// `report`: counts for the stream that it is about, if there is one.
    pub(super) fn report(
        &mut self,
        cx: &mut Context,
        uid: UserId,
        params: &Report,
    ) -> CommandResult {
        if params.data.get().len() > MAX_REPORT_BYTES {
            return Err(RpcError::new(ErrorName::InvalidParams).field("data"));
        }
        if let Some(key) = self.flow_of(uid, params)
            && let Some(figures) = figures(&params.kind, params.data.get())
        {
            self.reported(cx, key, &figures);
        }
        Ok(Reply::Empty)
    }

    /// The push or play that a report is about. If a member has several, the one of audio and video is meant, whose
    /// component reports most.
    fn flow_of(&self, uid: UserId, params: &Report) -> Option<FlowKey> {
        let member = self.members.get(&uid)?;
        match params.dir {
            ReportDir::Push => Some((*member.pushes.iter().flatten().next()?, None)),
            ReportDir::Pull => {
                let publisher = self.members.get(&params.uid?)?;
                let mut pushes = publisher.pushes.iter().flatten();
                let generation = pushes.find(|push| member.pulls.contains(push))?;
                Some((*generation, Some(member.mid)))
            }
            _ => None,
        }
    }
}

/// The figures in a report; `None` if it has none.
fn figures(kind: &ReportType, data: &str) -> Option<Figures> {
    let data: Map<String, Value> = serde_json::from_str(data).ok()?;
    let inner = data.get("info").and_then(Value::as_object);
    let look = |key: &str| data.get(key).or_else(|| inner?.get(key));
    let number = |key: &str, most: u64| look(key).and_then(|value| whole(value, most));
    let mut figures = Figures::default();
    match kind {
        ReportType::NetStatus => {
            let rates = [number("videoBitrate", MAX_KBPS), number("audioBitrate", MAX_KBPS)];
            figures.kbps = rates.into_iter().flatten().reduce(|one, other| one + other);
            figures.fps = number("videoFPS", MAX_FPS);
            figures.rtt_ms = number("rtt", MAX_RTT_MS);
            let level = number("netQualityLevel", MAX_LEVEL);
            figures.level = level.and_then(|level| u8::try_from(level).ok());
        }
        ReportType::StateChange => figures.code = look("code").and_then(code),
        ReportType::Error => figures.code = look("errCode").and_then(code),
        _ => {}
    }
    (figures != Figures::default()).then_some(figures)
}

/// A number from 0 to `most`, rounded.
fn whole(value: &Value, most: u64) -> Option<u64> {
    let number = value.as_f64().filter(|number| *number >= 0.0 && *number <= most as f64)?;
    Some(number.round() as u64)
}

fn code(value: &Value) -> Option<i64> {
    value.as_i64().filter(|code| CODES.contains(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, data: &str) -> Option<Figures> {
        figures(&ReportType::from(kind), data)
    }

    /// Proves REP-2.
    #[test]
    fn rep_2_figures_are_read_where_they_are_plausible() {
        let info =
            r#"{"videoBitrate":1180,"audioBitrate":48.4,"videoFPS":14.6,"netQualityLevel":2}"#;
        let expected =
            Figures { kbps: Some(1228), fps: Some(15), level: Some(2), ..Figures::default() };
        assert_eq!(read("bindnetstatus", info), Some(expected));
        assert_eq!(read("bindnetstatus", &format!(r#"{{"info":{info}}}"#)), Some(expected));
        for data in [
            "{}",
            r#"{"videoFPS":-1}"#,
            r#"{"videoFPS":1001}"#,
            r#"{"videoFPS":"15"}"#,
            r#"{"videoFPS":null}"#,
            r#"{"netQualityLevel":7}"#,
            r#"{"rtt":1e300}"#,
            r#"{"code":1}"#,
            r#"{"info":[]}"#,
        ] {
            assert_eq!(read("bindnetstatus", data), None, "{data}");
        }
        let code = |code| Some(Figures { code: Some(code), ..Figures::default() });
        assert_eq!(read("bindstatechange", r#"{"code":-1307,"message":"x"}"#), code(-1307));
        assert_eq!(read("binderror", r#"{"errCode":10001,"errMsg":"x"}"#), code(10001));
        assert_eq!(read("binderror", r#"{"errCode":1000000}"#), None);
        assert_eq!(read("bindstatechange", r#"{"code":1.5}"#), None);
        assert_eq!(read("other", r#"{"code":1,"rtt":1}"#), None);
    }
}
