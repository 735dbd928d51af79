//! Proves no rule of the protocol: what is composed at which moment, to the pixel and the sample.

use std::sync::Arc;

use lianmai_compositor::composer::{ComposedFrame, Composer, Micros, SECOND};
use lianmai_compositor::picture::{Picture, Yuv};
use lianmai_compositor::scene::{Adaption, Canvas, Image, Rect, Scene, Sound, Tile};

const RED: u32 = 0xFF_0000;
const GREEN: u32 = 0x00_FF00;
const BLUE: u32 = 0x00_00FF;
const WHITE: u32 = 0xFF_FFFF;
const GREY: u32 = 0x20_2020;
const FPS: u32 = 20;
const RATE: u32 = 48_000;
/// Interval of the pictures and of the sound chunks of the inputs.
const STEP: Micros = 50_000;

fn rect(x: u32, y: u32, width: u32, height: u32) -> Rect {
    Rect { x, y, width, height }
}

fn tile(input: &str, rect: Rect, adaption: Adaption, z: u32) -> Tile {
    Tile { input: input.into(), rect, adaption, z }
}

fn scene(tiles: Vec<Tile>, voices: &[&str]) -> Scene {
    let scene = Scene {
        canvas: Canvas { width: 320, height: 180, color: GREY },
        fps: FPS,
        video_kbps: 500,
        sound: Sound { kbps: 64, sample_rate: RATE, channels: 1, codec_profile: 0 },
        tiles,
        voices: voices.iter().map(|name| (*name).to_owned()).collect(),
        images: Vec::new(),
        pass_through: false,
    };
    assert_eq!(scene.check(), Ok(()));
    scene
}

fn image(url: &str, rect: Rect, z: Option<u32>, unless: Option<&str>) -> Image {
    let unless = unless.map(str::to_owned);
    Image { url: url.into(), rect, adaption: Adaption::Stretch, z, unless }
}

fn flat(width: u32, height: u32, color: u32) -> Arc<Picture> {
    Arc::new(Picture::filled(width, height, Yuv::from_rgb(color)).unwrap())
}

/// An input; parts that are `None` are not sent.
struct Live {
    name: &'static str,
    picture: Option<Arc<Picture>>,
    sample: Option<i16>,
}

/// A composer in virtual time with live inputs.
struct World {
    composer: Composer,
    now: Micros,
    inputs: Vec<Live>,
}

impl World {
    fn new(scene: Scene) -> Self {
        Self { composer: Composer::new(scene, 0), now: 0, inputs: Vec::new() }
    }

    fn with(
        mut self,
        name: &'static str,
        picture: Option<Arc<Picture>>,
        sample: Option<i16>,
    ) -> Self {
        self.inputs.push(Live { name, picture, sample });
        self
    }

    fn set(&mut self, name: &str, picture: Option<Arc<Picture>>, sample: Option<i16>) {
        let input = self.inputs.iter_mut().find(|input| input.name == name).unwrap();
        (input.picture, input.sample) = (picture, sample);
    }

    /// Runs one frame; the inputs send before it.
    fn frame(&mut self) -> ComposedFrame {
        // Inputs have clocks with another origin.
        let time = self.now + 5_000 * SECOND;
        for Live { name, picture, sample } in &self.inputs {
            if let Some(picture) = picture {
                self.composer.picture(self.now, name, time, picture.clone());
            }
            if let Some(sample) = sample {
                let samples = vec![*sample; (RATE / FPS) as usize];
                let at = time * i64::from(RATE) / SECOND;
                self.composer.sound(self.now, name, at, &samples);
            }
        }
        assert_eq!(self.composer.due(), self.now);
        let frame = self.composer.compose(self.now).unwrap();
        self.now += STEP;
        frame
    }

    fn frames(&mut self, count: usize) -> ComposedFrame {
        for _ in 1..count {
            self.frame();
        }
        self.frame()
    }
}

/// Asserts that every pixel has the colour of the last rectangle that contains it, or the background colour.
fn assert_pixels(frame: &ComposedFrame, background: u32, painted: &[(Rect, u32)]) {
    let picture = frame.picture.as_ref().unwrap();
    let mut wanted =
        Picture::filled(picture.width(), picture.height(), Yuv::from_rgb(background)).unwrap();
    for (rect, color) in painted {
        wanted.fill(*rect, Yuv::from_rgb(*color));
    }
    for y in 0..picture.height() {
        for x in 0..picture.width() {
            assert_eq!(picture.at(x, y), wanted.at(x, y), "at {x}, {y}");
        }
    }
}

#[test]
fn rectangles_are_exact() {
    let (left, right) = (rect(10, 20, 100, 80), rect(162, 44, 150, 120));
    let tiles = vec![tile("a", left, Adaption::Stretch, 0), tile("b", right, Adaption::Crop, 0)];
    let mut world = World::new(scene(tiles, &[])).with("a", Some(flat(640, 360, RED)), None).with(
        "b",
        Some(flat(64, 64, BLUE)),
        None,
    );
    assert_pixels(&world.frame(), GREY, &[]);
    assert_pixels(&world.frames(20), GREY, &[(left, RED), (right, BLUE)]);
}

#[test]
fn adaptions_fit_crop_and_stretch() {
    // Upright: red above, green in the middle, blue below.
    let mut upright = Picture::filled(60, 120, Yuv::from_rgb(GREEN)).unwrap();
    upright.fill(rect(0, 0, 60, 40), Yuv::from_rgb(RED));
    upright.fill(rect(0, 80, 60, 40), Yuv::from_rgb(BLUE));
    let upright = Arc::new(upright);
    let at = rect(100, 30, 120, 120);
    let seen = |adaption| {
        let mut world = World::new(scene(vec![tile("a", at, adaption, 0)], &[])).with(
            "a",
            Some(upright.clone()),
            None,
        );
        world.frames(20)
    };
    // Fit: full height and half the width, with bars in the colour of the canvas.
    let parts = [
        (rect(130, 30, 60, 40), RED),
        (rect(130, 70, 60, 40), GREEN),
        (rect(130, 110, 60, 40), BLUE),
    ];
    assert_pixels(&seen(Adaption::Fit), GREY, &parts);
    let color = |frame: &ComposedFrame, x, y| frame.picture.as_ref().unwrap().at(x, y);
    // Crop: full width, so the middle half of the height is visible, rows 30..90.
    let crop = seen(Adaption::Crop);
    for (x, y, rgb) in [(102, 32, RED), (218, 44, RED), (160, 90, GREEN), (160, 148, BLUE)] {
        assert_eq!(color(&crop, x, y), Yuv::from_rgb(rgb), "{x} {y}");
    }
    let stretch = seen(Adaption::Stretch);
    for (x, y, rgb) in [(100, 30, RED), (219, 66, RED), (219, 90, GREEN), (100, 149, BLUE)] {
        assert_eq!(color(&stretch, x, y), Yuv::from_rgb(rgb), "{x} {y}");
    }
    for frame in [&crop, &stretch] {
        assert_eq!(color(frame, 99, 90), Yuv::from_rgb(GREY));
        assert_eq!(color(frame, 220, 90), Yuv::from_rgb(GREY));
    }
}

#[test]
fn the_higher_layer_is_in_front_and_of_equals_the_later() {
    let (a, b, c) = (rect(0, 0, 100, 100), rect(50, 50, 100, 100), rect(80, 0, 100, 100));
    let tiles = |z: [u32; 3]| {
        vec![
            tile("a", a, Adaption::Crop, z[0]),
            tile("b", b, Adaption::Crop, z[1]),
            tile("c", c, Adaption::Crop, z[2]),
        ]
    };
    let mut world = World::new(scene(tiles([7, 3, 3]), &[]))
        .with("a", Some(flat(64, 64, RED)), None)
        .with("b", Some(flat(64, 64, GREEN)), None)
        .with("c", Some(flat(64, 64, BLUE)), None);
    assert_pixels(&world.frames(20), GREY, &[(b, GREEN), (c, BLUE), (a, RED)]);
    world.composer.update(scene(tiles([0, 100, 1]), &[]));
    assert_pixels(&world.frame(), GREY, &[(a, RED), (c, BLUE), (b, GREEN)]);
}

#[test]
fn an_update_is_in_force_at_the_next_frame() {
    let mut world = World::new(scene(vec![tile("a", rect(0, 0, 64, 64), Adaption::Crop, 0)], &[]))
        .with("a", Some(flat(64, 64, RED)), None);
    world.frames(20);
    for at in [rect(20, 20, 64, 64), rect(100, 0, 200, 180), rect(0, 0, 320, 180)] {
        world.composer.update(scene(vec![tile("a", at, Adaption::Crop, 0)], &[]));
        assert_pixels(&world.frame(), GREY, &[(at, RED)]);
    }
}

#[test]
fn images_are_background_or_placeholder() {
    let (whole, place) = (rect(0, 0, 320, 180), rect(40, 40, 80, 80));
    let mut with_images = scene(
        vec![tile("big", whole, Adaption::Crop, 0), tile("a", place, Adaption::Crop, 1)],
        &[],
    );
    with_images.images = vec![
        image("https://a/back.png", whole, None, None),
        image("https://a/place.png", place, Some(1), Some("a")),
    ];
    assert_eq!(with_images.check(), Ok(()));
    let mut world = World::new(with_images).with("big", None, None).with("a", None, None);
    assert_pixels(&world.frame(), GREY, &[]);
    world.composer.image("https://a/back.png", flat(32, 18, WHITE));
    world.composer.image("https://a/other.png", flat(32, 18, RED));
    assert_pixels(&world.frame(), GREY, &[(whole, WHITE)]);
    world.composer.image("https://a/place.png", flat(32, 18, GREEN));
    assert_pixels(&world.frame(), GREY, &[(whole, WHITE), (place, GREEN)]);
    // The big tile does not hide the image of an absent input.
    world.set("big", Some(flat(64, 36, BLUE)), None);
    assert_pixels(&world.frames(20), GREY, &[(whole, BLUE), (place, GREEN)]);
    world.set("a", Some(flat(64, 64, RED)), None);
    assert_pixels(&world.frames(20), GREY, &[(whole, BLUE), (place, RED)]);
    // The input freezes: three seconds later the image is shown again.
    world.set("a", None, None);
    assert_pixels(&world.frames(59), GREY, &[(whole, BLUE), (place, RED)]);
    assert_pixels(&world.frames(3), GREY, &[(whole, BLUE), (place, GREEN)]);
    world.set("a", Some(flat(64, 64, RED)), None);
    assert_pixels(&world.frames(20), GREY, &[(whole, BLUE), (place, RED)]);
}

#[test]
fn sounds_add_up_and_only_voices_are_heard() {
    let mut world = World::new(scene(Vec::new(), &["a", "b", "loud"]))
        .with("a", None, Some(1000))
        .with("b", None, Some(-300))
        .with("loud", None, None)
        .with("c", None, Some(7777));
    let frame = world.frames(40);
    assert_eq!(frame.sound, vec![700; 2400]);
    world.set("loud", None, Some(32_700));
    assert_eq!(world.frames(40).sound, vec![i16::MAX; 2400], "cut off, not turned over");
    world.composer.update(scene(Vec::new(), &["b"]));
    assert_eq!(world.frames(2).sound, vec![-300; 2400]);
    world.composer.update(scene(Vec::new(), &[]));
    assert_eq!(world.frame().sound, vec![0; 2400]);
}

#[test]
fn the_output_goes_on_whatever_inputs_do() {
    let mut world = World::new(scene(
        vec![tile("a", rect(0, 0, 64, 64), Adaption::Crop, 0)],
        &["a"],
    ))
    .with("a", Some(flat(64, 64, RED)), Some(500));
    let mut samples = 0;
    for number in 0..600_u64 {
        match number {
            200 => world.set("a", None, None),
            400 => world.set("a", Some(flat(64, 64, BLUE)), Some(900)),
            _ => {}
        }
        let frame = world.frame();
        assert_eq!((frame.number, frame.sound_at, frame.epoch), (number, samples, 0));
        assert_eq!(frame.at, number as i64 * STEP);
        assert!(frame.picture.is_some());
        samples += frame.sound.len() as u64;
        let loudest = frame.sound.iter().copied().max().unwrap_or_default();
        match number {
            100..200 => assert_eq!(loudest, 500),
            220..400 => assert_eq!(loudest, 0, "{number}"),
            450.. => assert_eq!(loudest, 900, "{number}"),
            _ => {}
        }
    }
}

#[test]
fn a_canvas_on_which_nothing_changed_is_the_same_one() {
    let mut world = World::new(scene(vec![tile("a", rect(0, 0, 64, 64), Adaption::Crop, 0)], &[]))
        .with("a", Some(flat(64, 64, RED)), None);
    world.frames(20);
    world.set("a", None, None);
    world.frames(10);
    let (one, two) = (world.frame().picture.unwrap(), world.frame().picture.unwrap());
    assert!(Arc::ptr_eq(&one, &two));
}

#[test]
fn sound_plays_without_a_picture() {
    let mut quiet = scene(Vec::new(), &["a"]);
    quiet.canvas = Canvas { width: 0, height: 0, color: 0 };
    assert_eq!(quiet.check(), Ok(()));
    let mut world = World::new(quiet).with("a", Some(flat(64, 64, RED)), Some(40));
    let frame = world.frames(40);
    assert!(frame.picture.is_none());
    assert_eq!(frame.sound, vec![40; 2400]);
}

#[test]
fn a_pause_of_the_process_makes_no_burst() {
    let mut composer = Composer::new(scene(Vec::new(), &[]), 0);
    let first = composer.compose(0).unwrap();
    let late = composer.compose(420_000).unwrap();
    assert_eq!((late.number, late.sound.len(), composer.skipped()), (8, 19_200, 7));
    let after = composer.compose(1000 * SECOND).unwrap();
    assert_eq!((after.number, after.sound.len(), after.at), (9, 2400, 9 * STEP));
    assert_eq!(first.number, 0);
    assert!(composer.compose(1000 * SECOND).is_none());
}
