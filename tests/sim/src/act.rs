//! Executes the actions of a scenario, and the reactions of apps. Comes in: actions, events of apps. Goes out: calls,
//! faults, and interventions on the server.

use lianmai_client_sdk::session::{Command, ConnectionState, Event};
use lianmai_protocol::message::media::{Mute, Publish, SetRole, Subscribe};
use lianmai_protocol::message::session::{
    AttributeTarget, CloseChannel, Empty, Join, Kick, RenewToken, Report, ReportDir, ReportType,
    SendMessage, SetAttributes,
};
use lianmai_protocol::message::task::TaskIds;
use lianmai_protocol::{ChannelName, Gen, MediaKind, MediaSelector, Role, UserId};
use lianmai_signal_engine::{Access, AdminCommand, ChannelKey};

use crate::client::Client;
use crate::net::{LinkId, Way};
use crate::scenario::{ActionKind, Cmd};
use crate::server::store::shard_of;
use crate::server::{Msg, QueryOrigin};
use crate::tokens::{self, TokenSpec};
use crate::world::{Ev, World, log};

pub(crate) fn kind(number: usize) -> MediaKind {
    MediaKind::ALL[number % MediaKind::ALL.len()].clone()
}

fn selector(number: usize) -> MediaSelector {
    if number == 4 { MediaSelector::Both } else { MediaSelector::Kind(kind(number)) }
}

fn role(on: bool) -> Role {
    if on { Role::Broadcaster } else { Role::Audience }
}

fn room(ch: usize) -> ChannelName {
    format!("room {ch}").parse().expect("a room has a good name")
}

impl World {
    pub(crate) fn key_of(&self, ch: usize) -> ChannelKey {
        let app = tokens::APPS[self.scenario.knobs.channels[ch]];
        ChannelKey { appkey: tokens::appkey(app), name: room(ch) }
    }

    pub(crate) fn act(&mut self, what: &ActionKind) {
        if self.failure.is_some() {
            return;
        }
        log!(self, "do {what:?}");
        match what {
            ActionKind::Call { c, cmd } => self.command(*c, cmd),
            ActionKind::Suspend { c, ms, clock } => {
                self.cov.count("fault:suspend");
                self.suspend(*c, *ms, *clock);
            }
            ActionKind::Network { c } => {
                self.cov.count("fault:network");
                if self.clients[*c].frozen.is_none() {
                    self.clients[*c].disturbed_at = self.now;
                    self.feed(*c, lianmai_client_sdk::session::Input::NetworkChanged);
                }
            }
            ActionKind::Offline { c, ms, silent } => {
                self.cov.count("fault:offline");
                self.go_offline(*c, *ms, *silent);
            }
            ActionKind::Slow { c, ms } => {
                self.cov.count("fault:slow");
                self.slow(*c, *ms);
            }
            ActionKind::Restart { c } => {
                self.cov.count("fault:clientRestart");
                self.restart_client(*c);
            }
            ActionKind::Cut { c, lose } => {
                self.cov.count("fault:cut");
                if let Some(id) = self.link_of(*c) {
                    self.cut(id, *lose);
                }
            }
            ActionKind::Swallow { c } => {
                self.cov.count("fault:swallow");
                self.clients[*c].swallows = true;
            }
            ActionKind::Trip { c, times } => {
                self.cov.count("fault:trip");
                self.clients[*c].trips = *times;
            }
            ActionKind::Half { c, up, down } => {
                self.cov.count("fault:half");
                if let Some(id) = self.link_of(*c) {
                    self.half_open(id, *up, *down);
                }
            }
            ActionKind::Stall { c, up, down, ms } => {
                self.cov.count("fault:stall");
                if let Some(id) = self.link_of(*c) {
                    self.stall(id, *up, *down, *ms);
                }
            }
            ActionKind::Crash { down_ms, silent } => self.crash(*down_ms, *silent),
            ActionKind::Drain { plan, down_ms } => self.start_drain(*plan, *down_ms),
            ActionKind::Stop { down_ms } => self.stop(*down_ms),
            ActionKind::Pause { ms } => {
                self.cov.count("fault:pause");
                self.pause(*ms);
            }
            ActionKind::Wall { ms } => {
                self.cov.count("fault:wall");
                self.wall_off = self.wall_off.saturating_add(*ms);
                self.model.wall_set = Some(self.now);
            }
            ActionKind::Disk { ms, slow, fails } => {
                self.cov.count("fault:disk");
                self.server.disk_trouble = (self.now + ms, *slow, *fails);
            }
            ActionKind::Mint { ms, slow, fails } => {
                self.cov.count("fault:mint");
                self.server.mint_trouble = (self.now + ms, *slow, *fails);
            }
            ActionKind::AdminKick { ch, c, s } => {
                let (channel, uid) = (self.key_of(*ch), UserId(self.clients[*c].spec.uid));
                self.admin(AdminCommand::Kick { channel, uid, duration_s: *s, reason: None });
            }
            ActionKind::AdminClose { ch, hold_s } => {
                let channel = self.key_of(*ch);
                self.admin(AdminCommand::CloseChannel { channel, hold_s: *hold_s, reason: None });
            }
            ActionKind::AdminLook { ch } => self.admin(AdminCommand::GetChannel(self.key_of(*ch))),
            ActionKind::Raw { ch, uid, script } => self.add_raw(*ch, *uid, script.clone()),
            ActionKind::Replay { what } => self.replay(*what),
        }
    }

    fn admin(&mut self, command: AdminCommand) {
        let shards = self.scenario.knobs.shards;
        if let Some(key) = command.channel() {
            let shard = shard_of(key, shards);
            self.post(shard, Msg::Admin(command));
        }
    }

    pub(crate) fn media_asks(&mut self, m: usize, shard: usize, generation: Gen, access: Access) {
        let _ = QueryOrigin::Admin;
        self.post(shard, Msg::Authorize(m, generation, access));
    }

    pub(crate) fn cut(&mut self, id: LinkId, lose: bool) {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else { return };
        link.disturbed_at = now;
        let (up, down) = (now + link.rng.below(200), now + link.rng.below(200));
        link.up.cut(up, lose);
        link.down.cut(down, lose);
        self.at(up, Ev::Deliver(id, Way::Up));
        self.at(down, Ev::Deliver(id, Way::Down));
    }

    pub(crate) fn half_open(&mut self, id: LinkId, up: bool, down: bool) {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else { return };
        link.disturbed_at = now;
        link.up.black |= up;
        link.down.black |= down;
    }

    fn stall(&mut self, id: LinkId, up: bool, down: bool, ms: u64) {
        let until = self.now + ms;
        for (way, meant) in [(Way::Up, up), (Way::Down, down)] {
            if meant && let Some(link) = self.links.get_mut(&id) {
                link.disturbed_at = until;
                let until = link.pipe(way).stall(until);
                self.at(until, Ev::Deliver(id, way));
            }
        }
    }

    fn uid(&self, c: usize) -> UserId {
        UserId(self.clients[c].spec.uid)
    }

    fn command(&mut self, c: usize, cmd: &Cmd) {
        // A frozen client makes no calls.
        if self.clients[c].frozen.is_some() || self.clients[c].retired {
            return;
        }
        let of = |world: &World, of: Option<usize>| of.map(|of| world.uid(of));
        let command = match cmd.clone() {
            Cmd::Join { token, role, name } => self.join_command(c, token, role, name),
            Cmd::Leave => Command::Leave(Empty {}),
            Cmd::Publish { kind } => {
                Command::Publish(Publish { media_type: selector(kind), uid: None })
            }
            Cmd::Unpublish { kind, of: target } => {
                Command::Unpublish(Publish { media_type: selector(kind), uid: of(self, target) })
            }
            Cmd::Subscribe { of, kind: number } => {
                Command::Subscribe(Subscribe { uid: self.uid(of), media_type: kind(number) })
            }
            Cmd::Unsubscribe { of, kind: number } => {
                Command::Unsubscribe(Subscribe { uid: self.uid(of), media_type: kind(number) })
            }
            Cmd::SetRole { broadcaster, of: target } => {
                Command::SetRole(SetRole { role: role(broadcaster), uid: of(self, target) })
            }
            Cmd::Mute { kind, on, of: target } => {
                let mute = Mute { media_type: selector(kind), uid: of(self, target) };
                if on { Command::Mute(mute) } else { Command::Unmute(mute) }
            }
            Cmd::Kick { of, s } => {
                let uid = self.uid(of);
                Command::Kick(Kick { uid, duration_s: s, reason: Some("out".to_owned()) })
            }
            Cmd::Close { hold_s } => Command::CloseChannel(CloseChannel { hold_s, reason: None }),
            Cmd::Message { to, bytes } => {
                let to = to.map(|to| to.into_iter().map(|c| self.uid(c)).collect::<Vec<_>>());
                let number = self.checks.recipients.len() as u64;
                self.checks.recipients.insert(number, to.clone());
                let data = format!("m:{number}:{}", "x".repeat(bytes));
                Command::SendMessage(SendMessage { data, to })
            }
            Cmd::Attributes { channel, key, bytes, name } => {
                let value = bytes.map(|bytes| "v".repeat(bytes));
                Command::SetAttributes(SetAttributes {
                    attributes: [(format!("key{key}"), value)].into_iter().collect(),
                    target: channel.then_some(AttributeTarget::Channel),
                    name: name.map(|bytes| "n".repeat(bytes)),
                })
            }
            Cmd::Renew { token } => {
                let token = self.token(c, token).unwrap_or_else(|| "garbage".to_owned());
                Command::RenewToken(RenewToken { token })
            }
            Cmd::Report { deep } => {
                let (open, close) = ("[".repeat(deep), "]".repeat(deep));
                let data = format!("{{\"code\":{open}null{close}}}");
                Command::Report(Report {
                    dir: ReportDir::Pull,
                    kind: ReportType::StateChange,
                    data: data.parse().expect("an object"),
                    uid: None,
                })
            }
            Cmd::Tasks => Command::DeleteTasks(TaskIds { task_ids: Vec::new() }),
        };
        self.call(c, command);
    }

    /// Sends random messages if few events were delivered so far: a world that is too quiet finds nothing.
    pub(crate) fn chatter(&mut self) {
        let knobs = &self.scenario.knobs;
        if !knobs.chatter || self.checks.delivered * knobs.length_ms > 2_800 * self.now {
            return;
        }
        let connected = |client: &Client| client.session.state() == ConnectionState::Connected;
        let there: Vec<usize> =
            (0..self.clients.len()).filter(|c| connected(&self.clients[*c])).collect();
        if there.is_empty() {
            return;
        }
        for _ in 0..16 {
            let (c, bytes) = (*self.rng.pick(&there), self.rng.index(40));
            self.command(c, &Cmd::Message { to: None, bytes });
        }
    }

    fn token(&mut self, c: usize, spec: TokenSpec) -> Option<String> {
        let spec_of = self.clients[c].spec;
        let app = tokens::APPS[self.scenario.knobs.channels[spec_of.channel]];
        let wall = self.wall().0;
        self.tokens.make(spec, app, UserId(spec_of.uid), &room(spec_of.channel), wall)
    }

    fn join_command(
        &mut self,
        c: usize,
        token: Option<TokenSpec>,
        on: Option<bool>,
        name: usize,
    ) -> Command {
        let spec = self.clients[c].spec;
        let token = self.token(c, token.unwrap_or(spec.token));
        let nonce = self.clients[c].rng.next();
        Command::Join(Join {
            appkey: tokens::appkey(tokens::APPS[self.scenario.knobs.channels[spec.channel]]),
            channel_name: room(spec.channel),
            uid: Some(UserId(spec.uid)),
            token,
            role: on.or(spec.role).map(role),
            join_id: Some(format!("join-{c}-{nonce:016x}")),
            continues: None,
            name: (name > 0).then(|| "n".repeat(name)),
            attributes: Default::default(),
        })
    }

    /// The app joins after a random delay of at most `within_ms`.
    pub(crate) fn join_again(&mut self, c: usize, within_ms: u64) {
        let delay = self.clients[c].rng.between(10, within_ms);
        self.after(delay, Ev::Join(c));
    }

    pub(crate) fn app_joins(&mut self, c: usize) {
        let client = &self.clients[c];
        let out = client.session.state() == ConnectionState::Disconnected;
        if out && !client.retired && client.frozen.is_none() && !self.healing {
            let command = self.join_command(c, None, None, 0);
            self.call(c, command);
        }
    }

    /// The reaction of an app to an event.
    pub(crate) fn app_reacts(&mut self, c: usize, event: &Event) {
        let knobs = (self.scenario.knobs.subscribes, self.scenario.knobs.rejoins);
        let rng = &mut self.clients[c].rng;
        match event {
            Event::StreamAdded(stream) if rng.chance(knobs.0) => {
                let (uid, media_type) = (stream.uid, stream.media_type.clone());
                self.react(c, Command::Subscribe(Subscribe { uid, media_type }));
            }
            Event::TokenWillExpire { .. } if rng.chance(700) => {
                let spec = self.clients[c].spec.token;
                if let Some(token) = self.token(c, spec) {
                    self.react(c, Command::RenewToken(RenewToken { token }));
                }
            }
            Event::Unpublished { media_type } if rng.chance(200) => {
                let media_type = MediaSelector::Kind(media_type.clone());
                self.react(c, Command::Publish(Publish { media_type, uid: None }));
            }
            Event::Reconnected { .. } if rng.chance(100) => {
                self.react(
                    c,
                    Command::Publish(Publish { media_type: MediaSelector::Both, uid: None }),
                );
            }
            Event::Disconnected { .. } if rng.chance(knobs.1) => self.join_again(c, 12_000),
            _ => {}
        }
    }
}
