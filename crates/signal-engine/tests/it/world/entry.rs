//! A join and the grant of its token, changed step by step.

use lianmai_protocol::message::session::Join;
use lianmai_protocol::{Attributes, ErrorName, Rights, Role, UserId, WallTime};
use lianmai_signal_engine::Grant;

use super::World;

/// A join and the grant of its token.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) join: Join,
    pub(crate) addr: u64,
    pub(crate) grant: Result<Grant, ErrorName>,
}

/// A debug join of `uid` to channel `room` of the app `plain`.
pub(crate) fn entry(uid: u64) -> Entry {
    let join = Join {
        appkey: "plain".parse().expect("valid"),
        channel_name: "room".parse().expect("valid"),
        uid: Some(UserId(uid)),
        token: None,
        role: None,
        join_id: None,
        continues: None,
        name: None,
        attributes: Attributes::default(),
    };
    Entry { join, addr: 0, grant: Ok(Grant::debug()) }
}

impl Entry {
    pub(crate) fn app(mut self, app: &str) -> Entry {
        self.join.appkey = app.parse().expect("valid");
        self
    }

    pub(crate) fn channel(mut self, name: &str) -> Entry {
        self.join.channel_name = name.parse().expect("valid");
        self
    }

    /// From another address than the others.
    pub(crate) fn from(mut self, addr: u64) -> Entry {
        self.addr = addr;
        self
    }

    pub(crate) fn anyone(mut self) -> Entry {
        self.join.uid = None;
        self
    }

    pub(crate) fn role(mut self, role: &str) -> Entry {
        self.join.role = Some(Role::from(role));
        self
    }

    pub(crate) fn audience(self) -> Entry {
        self.role("audience")
    }

    pub(crate) fn join_id(mut self, join_id: &str) -> Entry {
        self.join.join_id = Some(join_id.to_owned());
        self
    }

    pub(crate) fn name(mut self, name: &str) -> Entry {
        self.join.name = Some(name.to_owned());
        self
    }

    pub(crate) fn attribute(mut self, key: &str, value: &str) -> Entry {
        self.join.attributes.0.insert(key.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn grant(mut self, change: impl FnOnce(&mut Grant)) -> Entry {
        change(self.grant.as_mut().expect("a grant"));
        self
    }

    pub(crate) fn rights(self, change: impl FnOnce(&mut Rights)) -> Entry {
        self.grant(|grant| change(&mut grant.rights))
    }

    pub(crate) fn moderator(self) -> Entry {
        self.rights(|rights| rights.moderate = true)
    }

    /// With a JWT for its uid that was issued `ago_ms` ago and ends the membership in `life_ms`.
    pub(crate) fn jwt(self, world: &World, ago_ms: u64, life_ms: u64) -> Entry {
        let (now, uid) = (world.now.wall.0, self.join.uid);
        self.grant(|grant| {
            grant.uid = uid;
            grant.issued_at = Some(WallTime(now - ago_ms));
            grant.expires = Some(WallTime(now + life_ms));
            grant.ends_membership = true;
        })
    }

    pub(crate) fn bad_token(mut self, error: ErrorName) -> Entry {
        self.grant = Err(error);
        self
    }
}
