//! Apps and their tokens. Comes in: the grant that a client wants. Goes out: an opaque text, and the grant for that
//! text. Deliberately absent: cryptography; each text of this table is valid.

use std::collections::BTreeMap;

use lianmai_protocol::message::session::Join;
use lianmai_protocol::{Appkey, ChannelName, ErrorName, KindSet, Rights, UserId, WallTime};
use lianmai_signal_engine::{AppPolicy, DuplicatePolicy, Grant};
use serde::{Deserialize, Serialize};

/// The names of the apps of every world; `is_safe` and `policies` define their rules.
pub(crate) const APPS: [&str; 4] = ["demo", "safe", "strict", "show"];

pub(crate) fn is_safe(app: &str) -> bool {
    app == "safe"
}

pub(crate) fn policies() -> BTreeMap<Appkey, AppPolicy> {
    let policy = |app| AppPolicy {
        duplicate: if app == "strict" {
            DuplicatePolicy::RejectNew
        } else {
            DuplicatePolicy::KickOld
        },
        creator_moderates: !is_safe(app),
        dissolve_on_creator_leave: app == "show",
        ..AppPolicy::default()
    };
    APPS.iter().map(|app| (appkey(app), policy(*app))).collect()
}

pub(crate) fn appkey(app: &str) -> Appkey {
    app.parse().expect("it is made of letters")
}

/// Properties of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TokenSpec {
    /// No token.
    None,
    /// A JWT with these rights.
    Jwt {
        ttl_ms: u64,
        rights: u8,
        moderate: bool,
    },
    /// Allows only the join: its expiry does not end the membership.
    Basic {
        ttl_ms: u64,
    },
    Expired,
    Future,
    Garbage,
    OtherUid,
    OtherChannel,
    OtherApp,
}

/// A selection of the rights, by number.
fn rights(which: u8, moderate: bool) -> Rights {
    let kinds = |names: &[&str]| names.iter().map(|name| (*name).into()).collect::<KindSet>();
    let all = Rights { moderate, tasks: true, ..Rights::MEMBER };
    match which {
        1 => Rights { publish: kinds(&["audio"]), ..all },
        2 => Rights { broadcast: false, ..all },
        3 => Rights { subscribe: kinds(&["audio"]), message: false, ..all },
        4 => Rights { publish: KindSet::NONE, ..all },
        _ => all,
    }
}

/// Every token that was issued.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    made: Vec<(Appkey, Grant)>,
}

impl Tokens {
    pub(crate) fn make(
        &mut self,
        spec: TokenSpec,
        app: &str,
        uid: UserId,
        channel: &ChannelName,
        wall: u64,
    ) -> Option<String> {
        let mut grant = Grant {
            rights: rights(0, false),
            uid: Some(uid),
            channel: Some(channel.clone()),
            issued_at: Some(WallTime(wall)),
            not_before: None,
            expires: Some(WallTime(wall + 3_600_000)),
            ends_membership: true,
        };
        let mut app = app;
        match spec {
            TokenSpec::None => return None,
            TokenSpec::Garbage => return Some("garbage".to_owned()),
            TokenSpec::Jwt { ttl_ms, rights: which, moderate } => {
                grant.expires = Some(WallTime(wall + ttl_ms));
                grant.rights = rights(which, moderate);
            }
            TokenSpec::Basic { ttl_ms } => {
                grant.expires = Some(WallTime(wall + ttl_ms));
                grant.ends_membership = false;
            }
            TokenSpec::Expired => grant.expires = Some(WallTime(wall.saturating_sub(10_000))),
            TokenSpec::Future => grant.not_before = Some(WallTime(wall + 3_600_000)),
            TokenSpec::OtherUid => grant.uid = Some(UserId(uid.0 + 1_000_000)),
            TokenSpec::OtherChannel => {
                grant.channel = Some("elsewhere".parse().expect("it is a good name"));
            }
            TokenSpec::OtherApp => app = "demo",
        }
        self.made.push((appkey(app), grant));
        Some(format!("token-{}", self.made.len() - 1))
    }

    fn verify(&self, app: &Appkey, token: &str) -> Result<Grant, ErrorName> {
        let index = token.strip_prefix("token-").and_then(|n| n.parse::<usize>().ok());
        let (of, grant) =
            index.and_then(|index| self.made.get(index)).ok_or(ErrorName::TokenInvalid)?;
        if of == app { Ok(grant.clone()) } else { Err(ErrorName::BadAppkey) }
    }

    pub(crate) fn verify_join(&self, join: &Join) -> Result<Grant, ErrorName> {
        let app = join.appkey.as_str();
        if !APPS.contains(&app) {
            return Err(ErrorName::BadAppkey);
        }
        match (is_safe(app), join.token.as_deref()) {
            (false, None) => Ok(Grant::debug()),
            (false, Some(_)) => Err(ErrorName::TokenUnexpected),
            (true, None) => Err(ErrorName::TokenMissing),
            (true, Some(token)) => {
                let grant = self.verify(&join.appkey, token)?;
                join.uid.or(grant.uid).ok_or(ErrorName::BadUid)?;
                Ok(grant)
            }
        }
    }

    pub(crate) fn verify_renewal(&self, app: &Appkey, token: &str) -> Result<Grant, ErrorName> {
        if is_safe(app.as_str()) {
            self.verify(app, token)
        } else {
            Err(ErrorName::TokenUnexpected)
        }
    }
}
