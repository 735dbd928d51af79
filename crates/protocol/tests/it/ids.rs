//! Identifiers: each has one spelling, and every other spelling is refused.

use std::str::FromStr;

use lianmai_protocol::{
    Appkey, ChannelName, Cid, Epoch, ErrorName, Gen, Mid, Pub, SessionId, TaskId, UserId,
};
use proptest::prelude::*;

const BASE32: &[u8] = b"abcdefghijklmnopqrstuvwxyz234567";

proptest! {
    /// Proves FRM-10.
    #[test]
    fn random_ids_round_trip(bytes in any::<[u8; 12]>(), route in any::<u32>()) {
        let text = Epoch(bytes).to_string();
        prop_assert_eq!(text.len(), 20);
        prop_assert!(text.bytes().all(|b| BASE32.contains(&b)));
        prop_assert_eq!(text.parse(), Ok(Epoch(bytes)));
        prop_assert_eq!(text.parse(), Ok(Mid(bytes)));
        prop_assert_eq!(text.parse(), Ok(Pub(bytes)));
        prop_assert_eq!(text.parse(), Ok(SessionId(bytes)));
        let generation = Gen { route, random: bytes };
        let text = generation.to_string();
        prop_assert_eq!(text.len(), 26);
        prop_assert!(text.bytes().all(|b| BASE32.contains(&b)));
        prop_assert_eq!(text.parse(), Ok(generation));
    }

    /// Accepted text is written back unchanged: no id has two spellings.
    /// Proves FRM-9, FRM-10.
    #[test]
    fn accepted_text_is_canonical(
        short in "[a-z2-7]{20}",
        long in "[a-z2-7]{26}",
        digits in "[0-9]{1,21}",
        any in ".{0,30}",
    ) {
        for text in [&short, &long, &digits, &any] {
            if let Ok(id) = text.parse::<Epoch>() { prop_assert_eq!(&id.to_string(), text); }
            if let Ok(id) = text.parse::<Gen>() { prop_assert_eq!(&id.to_string(), text); }
            if let Ok(id) = text.parse::<UserId>() { prop_assert_eq!(&id.to_string(), text); }
            if let Ok(id) = text.parse::<Cid>() { prop_assert_eq!(&id.to_string(), text); }
            if let Ok(id) = text.parse::<ChannelName>() { prop_assert_eq!(id.as_str(), text); }
        }
    }

    /// Proves FRM-9.
    #[test]
    fn uids_round_trip(uid in any::<u64>()) {
        prop_assert_eq!(uid.to_string().parse(), Ok(UserId(uid)));
        let json = serde_json::to_string(&UserId(uid)).unwrap();
        prop_assert_eq!(&json, &format!("\"{uid}\""));
        prop_assert_eq!(serde_json::from_str::<UserId>(&json).unwrap(), UserId(uid));
    }

    /// Proves FRM-9.
    #[test]
    fn uids_as_numbers_are_exact(uid in 0u64..(1 << 53)) {
        prop_assert_eq!(serde_json::from_str::<UserId>(&uid.to_string()).unwrap(), UserId(uid));
    }
}

/// Proves FRM-10.
#[test]
fn base32_known_values() {
    assert_eq!(Epoch([0; 12]).to_string(), "aaaaaaaaaaaaaaaaaaaa");
    assert_eq!(Epoch([0xff; 12]).to_string(), "7777777777777777777q");
    assert_eq!(Mid(*b"hello world!").to_string(), "nbswy3dpeb3w64tmmqqq");
    assert_eq!(
        Gen { route: 0x6865_6c6c, random: *b"o world, 123" }.to_string(),
        "nbswy3dpeb3w64tmmqwcamjsgm"
    );
}

/// Proves FRM-10.
#[test]
fn base32_other_spellings_are_refused() {
    let refused = |text: &str| {
        assert_eq!(
            Epoch::from_str(text).map_err(|e| e.name),
            Err(ErrorName::InvalidParams),
            "{text:?}"
        );
    };
    // The last of 20 letters carries one bit, the last of 26 letters three; the remaining bits must be 0.
    for last in BASE32 {
        let text = format!("aaaaaaaaaaaaaaaaaaa{}", *last as char);
        assert_eq!(Epoch::from_str(&text).is_ok(), b"aq".contains(last), "{text}");
        let text = format!("aaaaaaaaaaaaaaaaaaaaaaaaa{}", *last as char);
        assert_eq!(Gen::from_str(&text).is_ok(), b"aeimquy4".contains(last), "{text}");
    }
    for text in [
        "",
        "aaaaaaaaaaaaaaaaaaa",
        "aaaaaaaaaaaaaaaaaaaaa",
        "AAAAAAAAAAAAAAAAAAAA",
        "aaaaaaaaaaaaaaaaaaaA",
        "0aaaaaaaaaaaaaaaaaaa",
        "1aaaaaaaaaaaaaaaaaaa",
        "8aaaaaaaaaaaaaaaaaaa",
        "aaaaaaaaaaaaaaaaaaa=",
        "aaaaaaaaaaaaaaaaaaa ",
        " aaaaaaaaaaaaaaaaaaa",
        "aaaaaaaaaa aaaaaaaaa",
        "éaaaaaaaaaaaaaaaaaa",
        "aaaaaaaaaaaaaaaaaaaaaaaaaa",
    ] {
        refused(text);
    }
}

/// Proves FRM-9.
#[test]
fn uid_spellings() {
    for text in ["0", "1", "7", "18446744073709551615"] {
        assert_eq!(text.parse::<UserId>().unwrap().to_string(), text);
    }
    for text in ["", "00", "007", "+7", "-1", "-0", "1e3", "7.0", " 7", "7 ", "0x7", "٧", "7a"] {
        assert_eq!(text.parse::<UserId>().map_err(|e| e.name), Err(ErrorName::BadUid), "{text:?}");
    }
    for text in ["18446744073709551616", "99999999999999999999999999"] {
        assert_eq!(
            text.parse::<UserId>().map_err(|e| e.name),
            Err(ErrorName::UidOutOfRange),
            "{text}"
        );
    }
}

/// Proves FRM-10.
#[test]
fn cids_are_exact_integers() {
    assert_eq!("1".parse(), Ok(Cid(1)));
    assert_eq!("9007199254740991".parse(), Ok(Cid((1 << 53) - 1)));
    for text in ["9007199254740992", "01", "-1", "", "x"] {
        assert!(text.parse::<Cid>().is_err(), "{text:?}");
    }
}

/// Proves FRM-11.
#[test]
fn frm_11_names() {
    let marks = " !#$%&()+-:;<=.,>?@[]^_{}~\"|";
    for byte in 0..=255u8 {
        // Twice, because a single `.` is no name.
        let text = format!("{0}a{0}", char::from(byte));
        let one = char::from(byte).to_string();
        let wanted = byte.is_ascii_alphanumeric() || (byte.is_ascii() && marks.contains(&one));
        assert_eq!(text.parse::<ChannelName>().is_ok(), wanted, "{text:?}");
        let wanted = byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        assert_eq!(text.parse::<Appkey>().is_ok(), wanted, "{text:?}");
        let wanted = byte.is_ascii_alphanumeric() || byte == b'_';
        assert_eq!(text.parse::<TaskId>().is_ok(), wanted, "{text:?}");
    }
    for text in [".", ".."] {
        assert!(text.parse::<ChannelName>().is_err() && text.parse::<Appkey>().is_err(), "{text}");
    }
    for text in ["...", ".a", "a."] {
        assert!(text.parse::<ChannelName>().is_ok() && text.parse::<Appkey>().is_ok(), "{text}");
    }
    let (longest, longer) = ("x".repeat(64), "x".repeat(65));
    assert!(longest.parse::<ChannelName>().is_ok());
    assert!(longest.parse::<Appkey>().is_ok());
    assert!(longest.parse::<TaskId>().is_ok());
    for text in ["", longer.as_str()] {
        assert_eq!(text.parse::<ChannelName>().map_err(|e| e.name), Err(ErrorName::BadChannelName));
        assert_eq!(text.parse::<Appkey>().map_err(|e| e.name), Err(ErrorName::BadAppkey));
        assert_eq!(text.parse::<TaskId>().map_err(|e| e.name), Err(ErrorName::BadTask));
    }
}

#[cfg(feature = "bignum")]
mod bignum {
    use lianmai_protocol::{ErrorName, UserId};
    use num_bigint::BigUint;
    use proptest::prelude::*;

    proptest! {
        /// Proves FRM-9.
        #[test]
        fn round_trip(uid in any::<u64>()) {
            let big = BigUint::from(UserId(uid));
            prop_assert_eq!(big.to_string(), uid.to_string());
            prop_assert_eq!(UserId::try_from(&big), Ok(UserId(uid)));
        }

        /// Proves FRM-9.
        #[test]
        fn above_is_out_of_range(low in any::<u64>(), high in 1u64..) {
            let big = (BigUint::from(high) << 64u32) + BigUint::from(low);
            prop_assert_eq!(
                UserId::try_from(&big).map_err(|e| e.name),
                Err(ErrorName::UidOutOfRange)
            );
        }
    }

    /// Proves FRM-9.
    #[test]
    fn edges() {
        let max = BigUint::from(u64::MAX);
        assert_eq!(UserId::try_from(&max), Ok(UserId(u64::MAX)));
        assert_eq!(UserId::try_from(&BigUint::ZERO), Ok(UserId(0)));
        let above = UserId::try_from(&(max + 1u32)).unwrap_err();
        assert_eq!(above.name, ErrorName::UidOutOfRange);
        assert!(above.to_string().starts_with("uidOutOfRange: "));
    }
}
