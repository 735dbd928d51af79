//! The composition of a task at a moment. Comes in: the source of the layout, the canvas, and the publishers. Goes out:
//! which stream is in which rectangle, and which are heard. One pure function, [`compose`], is called at every change
//! of publishers (TSK-5). Deliberately absent: pixels and sound (the executor).

use lianmai_protocol::limits::MAX_TASK_USERS;
use lianmai_protocol::{Gen, UserId};
use serde::{Deserialize, Serialize};

use super::spec::Canvas;

/// A whole side of a canvas in the unit of [`Pane`].
pub const WHOLE: u32 = 1_000_000;

/// How a picture is fitted into a rectangle of another shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Adaption {
    /// The whole picture is seen, with bars.
    Fit,
    /// The rectangle is full; the excess is cut off.
    #[default]
    Crop,
    /// The whole picture is seen and the rectangle is full; it is distorted.
    Stretch,
}

/// A rectangle of the canvas in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rect {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

/// The place of one member, and which of its media is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The member.
    pub uid: UserId,
    /// Its rectangle.
    pub rect: Rect,
    /// How its picture is fitted in.
    pub adaption: Adaption,
    /// 0..=100, higher in front.
    pub z: u32,
    /// Whether it is heard.
    pub audio: bool,
    /// Whether it is seen.
    pub video: bool,
}

/// A place for a member, in millionths of the canvas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pane {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
    /// 0..=100, higher in front.
    pub z: u32,
    /// The place of the host. At most one of a set.
    pub major: bool,
}

/// Places for as many members as it has panes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaneSet {
    /// 1 to 16 places.
    pub panes: Vec<Pane>,
}

/// Where a layout comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LayoutSource {
    /// Each member has its rectangle; a member without one is neither seen nor heard.
    Rectangles(Vec<Window>),
    /// The number of members that are seen selects the set of panes. The others are heard, too, up to
    /// [`MAX_TASK_USERS`] in all.
    Panes {
        /// Sets of different numbers of panes.
        sets: Vec<PaneSet>,
        /// How pictures are fitted in.
        adaption: Adaption,
    },
}

/// A member that publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publisher {
    /// The member.
    pub uid: UserId,
    /// The stream with its sound.
    pub audio: Option<Gen>,
    /// The stream with its picture.
    pub video: Option<Gen>,
}

/// A picture on the canvas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// The member.
    pub uid: UserId,
    /// The stream that carries it.
    pub generation: Gen,
    /// Its rectangle.
    pub rect: Rect,
    /// How it is fitted in.
    pub adaption: Adaption,
    /// Higher in front; of equals the later in the list.
    pub z: u32,
}

/// A sound in the mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voice {
    /// The member.
    pub uid: UserId,
    /// The stream that carries it.
    pub generation: Gen,
}

/// What is seen and heard at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Composition {
    /// Pictures, the rearmost first.
    pub tiles: Vec<Tile>,
    /// Sounds.
    pub voices: Vec<Voice>,
}

impl Composition {
    /// Whether no member is seen or heard.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tiles.is_empty() && self.voices.is_empty()
    }

    /// The streams that are part of it, each once.
    #[must_use]
    pub fn streams(&self) -> Vec<Gen> {
        let tiles = self.tiles.iter().map(|tile| tile.generation);
        let mut streams: Vec<Gen> =
            tiles.chain(self.voices.iter().map(|voice| voice.generation)).collect();
        streams.sort_unstable();
        streams.dedup();
        streams
    }

    /// Whether a stream is part of it.
    #[must_use]
    pub fn shows(&self, generation: Gen) -> bool {
        self.tiles.iter().any(|tile| tile.generation == generation)
            || self.voices.iter().any(|voice| voice.generation == generation)
    }
}

/// What is seen and heard of these publishers, which are in the order in which they began.
#[must_use]
pub fn compose(
    source: &LayoutSource,
    canvas: Canvas,
    host: Option<UserId>,
    publishers: &[Publisher],
) -> Composition {
    let mut composition = match source {
        LayoutSource::Rectangles(windows) => in_windows(windows, publishers),
        LayoutSource::Panes { sets, adaption } => {
            in_panes(sets, *adaption, canvas, host, publishers)
        }
    };
    if canvas.is_sound_only() {
        composition.tiles.clear();
    }
    // Stable: of tiles with the same `z` the later one stays in front.
    composition.tiles.sort_by_key(|tile| tile.z);
    composition
}

fn in_windows(windows: &[Window], publishers: &[Publisher]) -> Composition {
    let mut composition = Composition::default();
    for window in windows {
        let Some(publisher) = publishers.iter().find(|p| p.uid == window.uid) else { continue };
        let Window { uid, rect, adaption, z, .. } = *window;
        if let Some(generation) = publisher.video.filter(|_| window.video) {
            composition.tiles.push(Tile { uid, generation, rect, adaption, z });
        }
        if let Some(generation) = publisher.audio.filter(|_| window.audio) {
            composition.voices.push(Voice { uid, generation });
        }
    }
    composition
}

fn in_panes(
    sets: &[PaneSet],
    adaption: Adaption,
    canvas: Canvas,
    host: Option<UserId>,
    publishers: &[Publisher],
) -> Composition {
    let seen = publishers.iter().filter(|_| !canvas.is_sound_only());
    let mut seen: Vec<(UserId, Gen)> = seen.filter_map(|p| Some((p.uid, p.video?))).collect();
    // The smallest set in which all have room, else the largest.
    let enough = sets.iter().filter(|set| set.panes.len() >= seen.len());
    let set = enough.min_by_key(|set| set.panes.len());
    let Some(set) = set.or_else(|| sets.iter().max_by_key(|set| set.panes.len())) else {
        return Composition::default();
    };
    // The host is in the major pane; if it is not seen, the first publisher is.
    let major = set.panes.iter().position(|pane| pane.major);
    let hosted = host.and_then(|host| seen.iter().position(|(uid, _)| *uid == host)).unwrap_or(0);
    let mut places: Vec<&Pane> = set.panes.iter().collect();
    if let Some(major) = major {
        let pane = places.remove(major);
        places.insert(0, pane);
        if hosted < seen.len() {
            let first = seen.remove(hosted);
            seen.insert(0, first);
        }
    }
    let tiles = seen.into_iter().zip(places);
    let tiles: Vec<Tile> = tiles
        .map(|((uid, generation), pane)| Tile {
            uid,
            generation,
            rect: in_pixels(pane, canvas),
            adaption,
            z: pane.z,
        })
        .collect();
    // In all no more members than a layout of rectangles may have: a task is charged for that many.
    let mut unseen = MAX_TASK_USERS.saturating_sub(tiles.len());
    let voice = |publisher: &Publisher| {
        let (uid, generation) = (publisher.uid, publisher.audio?);
        if tiles.iter().all(|tile| tile.uid != uid) {
            unseen = unseen.checked_sub(1)?;
        }
        Some(Voice { uid, generation })
    };
    let voices = publishers.iter().filter_map(voice).collect();
    Composition { tiles, voices }
}

/// A pane in even pixels: panes that share an edge in fractions share it in pixels.
pub(super) fn in_pixels(pane: &Pane, canvas: Canvas) -> Rect {
    let edge = |at: u32, side: u32| {
        let pixels = u64::from(at) * u64::from(side) / u64::from(WHOLE);
        u32::try_from(pixels).unwrap_or(side) & !1
    };
    let (left, top) = (edge(pane.x, canvas.width), edge(pane.y, canvas.height));
    let right = edge(pane.x.saturating_add(pane.width), canvas.width);
    let bottom = edge(pane.y.saturating_add(pane.height), canvas.height);
    Rect { x: left, y: top, width: right.saturating_sub(left), height: bottom.saturating_sub(top) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANVAS: Canvas = Canvas { width: 1280, height: 720, color: 0 };

    fn stream(uid: u64) -> Gen {
        Gen { route: 0, random: [uid as u8; 12] }
    }

    fn both(uid: u64) -> Publisher {
        let generation = Some(stream(uid));
        Publisher { uid: UserId(uid), audio: generation, video: generation }
    }

    fn window(uid: u64, z: u32) -> Window {
        Window {
            uid: UserId(uid),
            rect: Rect { x: 0, y: 0, width: 640, height: 360 },
            adaption: Adaption::Fit,
            z,
            audio: true,
            video: true,
        }
    }

    fn pane(x: u32, width: u32, major: bool) -> Pane {
        Pane { x, y: 0, width, height: WHOLE, z: 0, major }
    }

    fn sets() -> LayoutSource {
        let third = WHOLE / 3;
        let one = PaneSet { panes: vec![pane(0, WHOLE, true)] };
        let three = PaneSet {
            panes: vec![
                pane(0, third, false),
                pane(third, third, true),
                pane(2 * third, WHOLE - 2 * third, false),
            ],
        };
        LayoutSource::Panes { sets: vec![three, one], adaption: Adaption::Stretch }
    }

    fn uids(composition: &Composition) -> Vec<u64> {
        composition.tiles.iter().map(|tile| tile.uid.0).collect()
    }

    /// Proves TSK-5.
    #[test]
    fn tsk_5_a_composition_has_at_most_the_charged_number_of_members() {
        let silent = |uid| Publisher { audio: None, ..both(uid) };
        let blind = |uid| Publisher { video: None, ..both(uid) };
        // The host comes last, and two of the three in panes have no sound.
        let mut publishers = vec![silent(1), silent(2)];
        publishers.extend((3..40).map(blind));
        publishers.push(both(40));
        let shown = compose(&sets(), CANVAS, Some(UserId(40)), &publishers);
        assert_eq!(shown.tiles.len(), 3);
        let heard: Vec<_> = shown.voices.iter().map(|voice| voice.uid.0).collect();
        assert_eq!(heard, (3..=20).chain([40]).collect::<Vec<_>>());
        assert_eq!(shown.streams().len(), MAX_TASK_USERS);
        let sound_only = Canvas { width: 0, height: 0, color: 0 };
        let shown = compose(&sets(), sound_only, Some(UserId(40)), &publishers);
        assert_eq!((shown.tiles.len(), shown.voices.len()), (0, MAX_TASK_USERS));
    }

    /// Proves TSK-5.
    #[test]
    fn tsk_5_windows_show_publishers_with_the_higher_in_front() {
        let silent = Window { audio: false, ..window(2, 0) };
        let hidden = Window { video: false, ..window(3, 0) };
        let source = LayoutSource::Rectangles(vec![window(1, 5), silent, hidden, window(4, 0)]);
        let publishers = [both(4), both(3), both(2), both(1), both(9)];
        let shown = compose(&source, CANVAS, None, &publishers);
        assert_eq!(uids(&shown), [2, 4, 1]);
        let heard: Vec<_> = shown.voices.iter().map(|voice| voice.uid.0).collect();
        assert_eq!(heard, [1, 3, 4]);
        assert!(shown.shows(stream(3)) && !shown.shows(stream(9)));
        let mute = Publisher { audio: None, ..both(1) };
        let blind = Publisher { video: None, ..both(4) };
        let shown = compose(&source, CANVAS, None, &[mute, blind]);
        assert_eq!((uids(&shown), shown.voices.len()), (vec![1], 1));
        assert!(compose(&source, CANVAS, None, &[]).is_empty());
        let sound_only = Canvas { width: 0, height: 0, color: 0 };
        assert!(compose(&source, sound_only, None, &publishers).tiles.is_empty());
    }

    /// Proves TSK-5.
    #[test]
    fn tsk_5_the_number_of_publishers_chooses_the_panes() {
        let rects = |n: u64, host: Option<u64>| {
            let publishers: Vec<_> = (1..=n).map(both).collect();
            let shown = compose(&sets(), CANVAS, host.map(UserId), &publishers);
            assert_eq!(shown.voices.len() as u64, n);
            let of = |tile: &Tile| (tile.uid.0, tile.rect.x, tile.rect.width);
            shown.tiles.iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(rects(1, None), [(1, 0, 1280)]);
        // Edges meet in spite of rounding.
        assert_eq!(rects(2, None), [(1, 426, 426), (2, 0, 426)]);
        assert_eq!(rects(3, Some(3)), [(3, 426, 426), (1, 0, 426), (2, 852, 428)]);
        assert_eq!(rects(3, Some(9)), [(1, 426, 426), (2, 0, 426), (3, 852, 428)]);
        assert_eq!(rects(5, Some(5)), [(5, 426, 426), (1, 0, 426), (2, 852, 428)]);
        assert_eq!(rects(0, Some(1)), []);
        // A member that is only heard takes no pane.
        let heard = Publisher { video: None, ..both(1) };
        let shown = compose(&sets(), CANVAS, None, &[heard, both(2)]);
        assert_eq!((uids(&shown), shown.voices.len()), (vec![2], 2));
        assert_eq!(shown.tiles[0].rect, Rect { x: 0, y: 0, width: 1280, height: 720 });
    }
}
