//! The cost of a push task. Comes in: its spec. Goes out: the maximum of processor time and memory that it may need, by
//! measured numbers (`docs/operations.md`). Joins and leaves of members do not change it. Deliberately absent: limits
//! and shares, see `capacity.rs`.

use lianmai_protocol::limits::MAX_TASK_USERS;
use lianmai_signal_engine::task::{Canvas, LayoutSource, Spec};

/// The cost of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    /// Thousandths of a core.
    pub(super) cpu: usize,
    /// Bytes of memory.
    pub(super) memory: usize,
}

/// Thousandths of a core: for the mix and its encoder, for one million encoded pixels per second, for an input that is
/// decoded with its picture, and for an input with sound only.
const MIX: usize = 40;
const MEGAPIXEL: usize = 14;
const VIDEO_INPUT: usize = 45;
const AUDIO_INPUT: usize = 15;

const MIB: usize = 1 << 20;
/// Bytes: for the compositor, for its encoder, and for the decoder of an input.
const COMPOSITOR: usize = 40 * MIB;
const ENCODER: usize = 100 * MIB;
const DECODER: usize = 64 * MIB;

impl Cost {
    /// The minimum cost of a task.
    const MIN: Cost = Cost { cpu: MIX, memory: COMPOSITOR + ENCODER };

    /// Maximum number of tasks that fit into this.
    pub(super) fn max_tasks(self) -> usize {
        (self.cpu / Cost::MIN.cpu).min(self.memory / Cost::MIN.memory)
    }

    pub(super) fn of(spec: &Spec) -> Cost {
        let (videos, audios) = inputs(spec);
        let Canvas { width, height, .. } = spec.canvas;
        let pixels = if spec.pass_through {
            0
        } else {
            u64::from(width) * u64::from(height) * u64::from(spec.encoding.fps)
        };
        let megapixels = usize::try_from(pixels.div_ceil(1_000_000)).unwrap_or(usize::MAX);
        Cost {
            cpu: Cost::MIN.cpu
                + megapixels.saturating_mul(MEGAPIXEL)
                + videos * VIDEO_INPUT
                + audios * AUDIO_INPUT,
            memory: Cost::MIN.memory + (videos + audios) * DECODER,
        }
    }
}

/// The number of inputs with a picture, and of inputs with sound only.
fn inputs(spec: &Spec) -> (usize, usize) {
    match &spec.source {
        LayoutSource::Rectangles(windows) => {
            let videos = windows.iter().filter(|window| window.video).count();
            (videos, windows.iter().filter(|window| window.audio && !window.video).count())
        }
        LayoutSource::Panes { sets, .. } => {
            let panes = sets.iter().map(|set| set.panes.len()).max().unwrap_or(0);
            let videos = if spec.canvas.is_sound_only() { 0 } else { panes };
            // Members without a picture are heard until this number of members is reached.
            (videos, MAX_TASK_USERS.saturating_sub(videos))
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: the cost of tasks.

    use super::super::spec_of;
    use super::*;

    #[test]
    fn a_larger_canvas_and_more_inputs_cost_more() {
        let of = |width, height, users: usize| {
            let user = |uid: usize| {
                format!(
                    r#"{{"uid": "{uid}", "width": 16, "height": 16, "pushAudio": true, "pushVideo": true}}"#
                )
            };
            let users: Vec<_> = (0..users).map(user).collect();
            Cost::of(&spec_of(&format!(
                r#"{{"canvas": {{"width": {width}, "height": {height}}}, "users": [{}]}}"#,
                users.join(",")
            )))
        };
        assert_eq!(of(1280, 720, 2).cpu, 40 + 24 * 14 + 2 * 45);
        assert_eq!(of(1280, 720, 2).memory, (140 + 2 * 64) << 20);
        assert!(of(1280, 720, 7).cpu > of(1280, 720, 2).cpu);
        assert!(of(1920, 1080, 2).cpu > of(1280, 720, 2).cpu + 300);
        assert!(of(640, 360, 2).cpu < of(1280, 720, 2).cpu);
        let quiet = Cost::of(&spec_of(
            r#"{"canvas": {"width": 0, "height": 0}, "users": [{"uid": "1", "pushAudio": true}]}"#,
        ));
        assert_eq!(quiet.cpu, 40 + 15);
    }
}
