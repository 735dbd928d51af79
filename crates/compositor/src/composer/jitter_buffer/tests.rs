//! Proves no rule of the protocol: an input and the clock, in virtual time.

use super::*;
use crate::picture::Yuv;

const RATE: i64 = 48_000;
/// 25 pictures per second; chunks of sound of the same duration.
const FRAME: Micros = 40_000;
const SAMPLES: i64 = RATE / 25;

/// A picture that encodes its number as brightness.
fn numbered(number: i64) -> Arc<Picture> {
    let color = Yuv { y: number.rem_euclid(200) as u8 + 16, ..Yuv::BLACK };
    Arc::new(Picture::filled(2, 2, color).unwrap())
}

fn shown(buffer: &JitterBuffer) -> Option<i64> {
    buffer.shown().map(|picture| i64::from(picture.at(0, 0).y) - 16)
}

/// The value of the first sample at a moment of our clock.
fn heard(buffer: &mut JitterBuffer, now: Micros) -> i16 {
    let mut mix = Mix::silence(1);
    buffer.mix(now, now * RATE / SECOND, 1, &mut mix);
    mix.finish()[0]
}

/// Sends frame `number` of an input that started a hundred seconds ago by its own clock. Its time is `100 s + number *
/// 40 ms`, and it comes `late` microseconds late.
fn send(buffer: &mut JitterBuffer, number: i64, at: Micros, late: Micros) {
    let time = 100 * SECOND + number * FRAME;
    buffer.sound(at, 100 * RATE + number * SAMPLES, &[number as i16; SAMPLES as usize]);
    buffer.picture(at + late, time, numbered(number));
}

#[test]
fn picture_and_sound_are_of_the_same_moment() {
    // The picture comes later than the sound, because video encoders take longer.
    for late in [0, 30_000, 400_000, 900_000] {
        let mut buffer = JitterBuffer::new(RATE as u32, 1);
        let mut events: Vec<(Micros, i64, TrackKind)> = Vec::new();
        for number in 0..150 {
            events.push((number * FRAME, number, TrackKind::Sound));
            events.push((number * FRAME + late, number, TrackKind::Picture));
        }
        events.sort_by_key(|event| event.0);
        for (now, number, kind) in events {
            match kind {
                TrackKind::Sound => {
                    let sound = [number as i16; SAMPLES as usize];
                    buffer.sound(now, 100 * RATE + number * SAMPLES, &sound);
                }
                TrackKind::Picture => {
                    buffer.picture(now, 100 * SECOND + number * FRAME, numbered(number));
                }
            }
            if now < 3 * SECOND {
                continue;
            }
            buffer.advance(now, now, FRAME);
            let (sound, picture) = (heard(&mut buffer, now), shown(&buffer).unwrap());
            assert!((i64::from(sound) - picture).abs() <= 1, "{late}: {sound}, {picture}");
        }
    }
}

#[test]
fn a_burst_at_the_beginning_leads_to_what_is_live() {
    let mut buffer = JitterBuffer::new(RATE as u32, 1);
    // Two seconds of buffered media come within 100 ms, then live media.
    for number in 0..50 {
        send(&mut buffer, number, number * 2000, 0);
    }
    for number in 50..100 {
        send(&mut buffer, number, 100_000 + (number - 50) * FRAME, 0);
    }
    let now = 100_000 + 50 * FRAME;
    buffer.advance(now, now, FRAME);
    // The live frame is number 99; the reserve is five frames.
    let seen = shown(&buffer).unwrap();
    assert!((92..=97).contains(&seen), "{seen}");
}

#[test]
fn a_frozen_input_disappears_and_comes_back() {
    let mut buffer = JitterBuffer::new(RATE as u32, 1);
    for number in 0..25 {
        send(&mut buffer, number, number * FRAME, 0);
    }
    let last = 24 * FRAME;
    buffer.advance(last + SECOND, last + SECOND, FRAME);
    assert_eq!(shown(&buffer), Some(24));
    buffer.advance(last + FROZEN, last + FROZEN, FRAME);
    assert_eq!(shown(&buffer), Some(24), "three seconds");
    buffer.advance(last + FROZEN + 1, last + FROZEN + 1, FRAME);
    assert_eq!(shown(&buffer), None);
    let back = last + 10 * SECOND;
    for number in 275..300 {
        send(&mut buffer, number, back + (number - 275) * FRAME, 0);
    }
    buffer.advance(back + SECOND, back + SECOND, FRAME);
    assert!(shown(&buffer).is_some());
}

#[test]
fn a_clock_that_runs_away_is_followed_in_steps() {
    // The input's clock is one per mille too fast, or too slow.
    for pace in [FRAME - 40, FRAME + 40] {
        let mut buffer = JitterBuffer::new(RATE as u32, 1);
        let mut before = None;
        for number in 0..2500 {
            let now = number * pace;
            send(&mut buffer, number, now, 0);
            let offset = buffer.offset().unwrap();
            if let Some(before) = before.filter(|_| now > SECOND) {
                let moved: Micros = offset - before;
                assert!(moved.abs() <= STEP.0, "{moved}");
            }
            before = Some(offset);
            let should = now - (100 * SECOND + number * FRAME) + RESERVES.0;
            assert!(now < SECOND || (offset - should).abs() < SLACK + 30_000, "{number}");
        }
    }
}

#[test]
fn times_that_go_back_begin_anew() {
    let mut buffer = JitterBuffer::new(RATE as u32, 1);
    for number in 0..50 {
        send(&mut buffer, number, number * FRAME, 0);
    }
    // Its clock jumps by thirty seconds.
    let now = 50 * FRAME;
    for number in 0..50 {
        send(&mut buffer, number - 750, now + number * FRAME, 0);
    }
    let now = now + 50 * FRAME;
    buffer.advance(now, now, FRAME);
    let seen = shown(&buffer).unwrap();
    assert!((-710..=-700).any(|number: i64| number.rem_euclid(200) == seen), "{seen}");
    assert!((-710..=-700).contains(&heard(&mut buffer, now)));
}

#[test]
fn a_slow_path_is_waited_for_and_a_pause_of_it_is_not() {
    let mut buffer = JitterBuffer::new(RATE as u32, 1);
    for number in 0..100 {
        send(&mut buffer, number, number * FRAME, 0);
    }
    let before = buffer.offset().unwrap();
    // Half a second arrives late, in one burst.
    for number in 100..112 {
        send(&mut buffer, number, 112 * FRAME, 0);
    }
    assert_eq!(buffer.offset().unwrap(), before);
    // From here on everything takes 300 ms longer.
    for number in 112..400 {
        send(&mut buffer, number, number * FRAME + 300_000, 0);
    }
    let after = buffer.offset().unwrap();
    assert!((after - before - 300_000).abs() <= SLACK + STEP.0, "{}", after - before);
}

#[test]
fn what_comes_in_bursts_is_heard_without_gaps() {
    let mut buffer = JitterBuffer::new(RATE as u32, 1);
    let mut silent = Vec::new();
    for number in 0..1500 {
        let now = number * FRAME;
        // Half a second arrives at once.
        if number % 12 == 11 {
            for number in number - 11..=number {
                send(&mut buffer, number + 1, now, 0);
            }
        }
        buffer.advance(now, now, FRAME);
        let mut mix = Mix::silence(SAMPLES as usize);
        buffer.mix(now, now * RATE / SECOND, SAMPLES as usize, &mut mix);
        if mix.finish().contains(&0) {
            silent.push(number);
        }
    }
    assert!(silent.iter().all(|number| *number < 250), "{silent:?}");
    assert!(buffer.reserve < 700_000, "{}", buffer.reserve);
}

#[test]
fn large_pictures_go_on_in_time_at_a_lower_rate() {
    // 1080p at 60 pictures a second: fewer of them may wait than come until the first is due.
    let (fps, samples) = (60, RATE / 60);
    let mut buffer = JitterBuffer::new(RATE as u32, 1);
    let mut seen = Vec::new();
    for number in 0..180 {
        let now = number * SECOND / fps;
        buffer.sound(now, number * samples, &[number as i16; RATE as usize / 60]);
        let color = Yuv { y: number as u8 + 16, ..Yuv::BLACK };
        let picture = Picture::filled(1920, 1080, color).unwrap();
        buffer.picture(now, now, Arc::new(picture));
        let size: usize = buffer.waiting.iter().map(|(_, picture)| picture.data().len()).sum();
        assert!(size <= MAX_WAITING.1 && buffer.waiting.len() <= MAX_WAITING.0);
        buffer.advance(now, now, SECOND / fps);
        if now >= SECOND {
            let (sound, picture) = (i64::from(heard(&mut buffer, now)), shown(&buffer).unwrap());
            assert!((-1..=4).contains(&(sound - picture)), "{sound}, {picture}");
            seen.push(picture);
        }
    }
    seen.dedup();
    assert!(seen.len() >= 30, "of 120: {seen:?}");
}

#[test]
fn no_times_cause_a_panic_and_the_queue_is_bounded() {
    let mut buffer = JitterBuffer::new(RATE as u32, 2);
    let odd = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
    for (index, time) in odd.iter().cycle().take(500).enumerate() {
        let now = index as i64 * 10_000;
        let other = odd[(index * 5 + 3) % odd.len()];
        buffer.picture(now, *time, numbered(1));
        buffer.sound(now, other, &[1; 100]);
        buffer.observe(now, TrackKind::Picture, other);
        let mut mix = Mix::silence(200);
        buffer.mix(now, now * RATE / SECOND, 100, &mut mix);
        buffer.advance(now, now, FRAME);
        assert!(buffer.waiting.len() <= MAX_WAITING.0);
    }
}
