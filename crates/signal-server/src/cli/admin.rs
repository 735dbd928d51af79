//! Commands of operators for a running server. Comes in: arguments. Goes out: tables for people, or JSON. Deliberately
//! absent: how a server is called (`remote`); all commands are also possible with the API.

use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde_json::{Value, json};

use super::remote::{Remote, path_segment};
use super::table::{Column, table};

/// Page size of lists.
const PAGE: usize = 1_000;

/// `channels`.
#[derive(Args, Clone, Debug)]
pub struct ChannelsArgs {
    #[command(flatten)]
    remote: Remote,
    /// What to do; `list` when absent.
    #[command(subcommand)]
    action: Option<ChannelsCommand>,
}

#[derive(Clone, Debug, Subcommand)]
enum ChannelsCommand {
    /// List all channels.
    List,
    /// Show one channel.
    Show {
        /// Its name.
        channel: String,
    },
    /// Make a channel ahead of its first join.
    Create {
        /// Its name.
        channel: String,
        /// The uid of its creator.
        #[arg(long, value_name = "UID")]
        creator: Option<String>,
        /// Keep it when its last member leaves.
        #[arg(long)]
        keep_empty: bool,
        /// Maximum number of members.
        #[arg(long, value_name = "N")]
        max_members: Option<u32>,
        /// Maximum number of broadcasters.
        #[arg(long, value_name = "N")]
        max_broadcasters: Option<u32>,
    },
    /// Close a channel; all memberships end.
    Close {
        /// Its name.
        channel: String,
        /// Time in which tokens from before the close are refused.
        #[arg(long, value_name = "SECONDS")]
        hold_s: Option<u32>,
        /// Sent to the members.
        #[arg(long)]
        reason: Option<String>,
    },
}

/// `members`.
#[derive(Args, Clone, Debug)]
pub struct MembersArgs {
    #[command(flatten)]
    remote: Remote,
    /// The channel.
    channel: String,
}

/// `kick`.
#[derive(Args, Clone, Debug)]
pub struct KickArgs {
    #[command(flatten)]
    remote: Remote,
    /// The channel.
    channel: String,
    /// The user to kick.
    uid: String,
    /// Duration of the ban.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    duration_s: u32,
    /// Sent to the member.
    #[arg(long)]
    reason: Option<String>,
}

/// `bans`.
#[derive(Args, Clone, Debug)]
pub struct BansArgs {
    #[command(flatten)]
    remote: Remote,
    /// What to do; `list` when absent.
    #[command(subcommand)]
    action: Option<BansCommand>,
}

#[derive(Clone, Debug, Subcommand)]
enum BansCommand {
    /// List the bans and holds. LEFT_MS is 0 if only tokens from before the kick are refused.
    List {
        /// Only of this channel; of all when absent.
        channel: Option<String>,
    },
    /// Lift a ban.
    Lift {
        /// The channel.
        channel: String,
        /// The user that may come back.
        uid: String,
    },
    /// Lift the hold of a name: users that a close kept out may come back.
    LiftHold {
        /// The channel.
        channel: String,
    },
}

/// `keys`.
#[derive(Args, Clone, Debug)]
pub struct KeysArgs {
    #[command(flatten)]
    remote: Remote,
    /// Keys for all apps instead of those of one app.
    #[arg(long)]
    all_apps: bool,
    /// What to do; `list` when absent.
    #[command(subcommand)]
    action: Option<KeysCommand>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ScopeArg {
    Read,
    Moderate,
    Admin,
}

#[derive(Clone, Debug, Subcommand)]
enum KeysCommand {
    /// List all keys, without their texts.
    List,
    /// Make a key; its text is shown only once.
    Create {
        /// What the key may do; each scope includes those before it.
        #[arg(long, value_enum)]
        scope: ScopeArg,
        /// A label for people.
        #[arg(long, default_value = "")]
        name: String,
    },
    /// Revoke a key.
    Revoke {
        /// Its id.
        id: String,
    },
}

/// `events`.
#[derive(Args, Clone, Debug)]
pub struct EventsArgs {
    #[command(flatten)]
    remote: Remote,
    /// Continue after the cursor of an earlier answer.
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// Maximum number of events.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

/// `history`.
#[derive(Args, Clone, Debug)]
pub struct HistoryArgs {
    #[command(flatten)]
    remote: Remote,
    /// The channel.
    channel: String,
    /// Only entries about this user, or about no user.
    #[arg(long, value_name = "UID")]
    uid: Option<String>,
    /// Together with --uid: only entries about the two users or about no user, to see why one did not see the other.
    #[arg(long, value_name = "UID", requires = "uid")]
    with: Option<String>,
    /// Begin of the time range, in Unix milliseconds.
    #[arg(long, value_name = "MS")]
    from: Option<u64>,
    /// End of the time range (exclusive), in Unix milliseconds.
    #[arg(long, value_name = "MS")]
    to: Option<u64>,
}

type CommandOutput = Result<String, String>;

impl Remote {
    fn get(&self, rest: &str) -> Result<Value, String> {
        self.ask(Method::GET, &self.path(rest), None)
    }

    fn post(&self, rest: &str, body: &Value) -> Result<Value, String> {
        self.ask(Method::POST, &self.path(rest), Some(body))
    }

    /// All pages of a list.
    fn all(&self, rest: &str, name: &str) -> Result<Vec<Value>, String> {
        self.all_of(rest, "", name)
    }

    /// All pages of a list with a query.
    fn all_of(&self, rest: &str, query: &str, name: &str) -> Result<Vec<Value>, String> {
        let mut all = Vec::new();
        let mut after = String::new();
        loop {
            let mut page = self.get(&format!("{rest}?limit={PAGE}{query}{after}"))?;
            if let Some(some) = page[name].as_array_mut() {
                all.append(some);
            }
            match page["nextCursor"].as_str() {
                Some(next) => after = format!("&after={}", path_segment(next)),
                None => return Ok(all),
            }
        }
    }

    fn list(&self, columns: &[Column], rows: Vec<Value>) -> String {
        if self.json { lines(&rows) } else { table(columns, &rows) }
    }

    /// One object as JSON, or a sentence.
    fn one(&self, value: &Value, sentence: String) -> String {
        if self.json { format!("{value}\n") } else { sentence + "\n" }
    }
}

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

/// A JSON object without the absent values.
fn given(pairs: &[(&str, Option<Value>)]) -> Value {
    let given = pairs.iter().filter_map(|(key, value)| Some(((*key).to_owned(), value.clone()?)));
    Value::Object(given.collect())
}

/// A row for each field of a channel, of its policy and of its attributes.
pub(super) fn field_rows(channel: &Value) -> Vec<Value> {
    let row = |field: &str, value: &Value| json!({"field": field, "value": value});
    let own = ["channelName", "cid", "creator", "members", "broadcasters", "preparedUntil"];
    let mut rows: Vec<Value> =
        own.into_iter().filter_map(|field| Some(row(field, channel.get(field)?))).collect();
    for part in ["policy", "attributes"] {
        let of = channel[part].as_object().into_iter().flatten();
        rows.extend(of.map(|(key, value)| row(&format!("{part}.{key}"), value)));
    }
    rows
}

impl ChannelsArgs {
    pub(super) fn run(&self) -> CommandOutput {
        let remote = &self.remote;
        let path = |channel: &str, rest: &str| format!("channels/{}{rest}", path_segment(channel));
        match self.action.as_ref().unwrap_or(&ChannelsCommand::List) {
            ChannelsCommand::List => {
                let columns = [
                    ("CHANNEL", "/channelName"),
                    ("MEMBERS", "/members"),
                    ("BROADCASTERS", "/broadcasters"),
                    ("CREATOR", "/creator"),
                    ("CID", "/cid"),
                ];
                Ok(remote.list(&columns, remote.all("channels", "channels")?))
            }
            ChannelsCommand::Show { channel } => {
                let shown = remote.get(&path(channel, ""))?;
                let rows = if remote.json { vec![shown] } else { field_rows(&shown) };
                Ok(remote.list(&[("FIELD", "/field"), ("VALUE", "/value")], rows))
            }
            ChannelsCommand::Create {
                channel,
                creator,
                keep_empty,
                max_members,
                max_broadcasters,
            } => {
                let policy = given(&[
                    ("keepEmpty", keep_empty.then(|| json!(true))),
                    ("maxMembers", max_members.map(Value::from)),
                    ("maxBroadcasters", max_broadcasters.map(Value::from)),
                ]);
                let body = given(&[
                    ("channelName", Some(json!(channel))),
                    ("creator", creator.as_ref().map(|uid| json!(uid))),
                    ("policy", Some(policy)),
                ]);
                let made = remote.post("channels", &body)?;
                let cid = made["cid"].as_str().unwrap_or_default();
                Ok(remote.one(&made, format!("made, cid {cid}")))
            }
            ChannelsCommand::Close { channel, hold_s, reason } => {
                let body = given(&[
                    ("holdS", hold_s.map(Value::from)),
                    ("reason", reason.as_ref().map(|text| json!(text))),
                ]);
                let done = remote.post(&path(channel, "/close"), &body)?;
                Ok(remote.one(&done, "closed".to_owned()))
            }
        }
    }
}

impl MembersArgs {
    pub(super) fn run(&self) -> CommandOutput {
        let rest = format!("channels/{}/members", path_segment(&self.channel));
        let columns = [
            ("UID", "/uid"),
            ("ROLE", "/role"),
            ("CONNECTED", "/connected"),
            ("STREAMS", "/streams"),
            ("MUTED", "/muted"),
            ("BARRED", "/barred"),
            ("NAME", "/name"),
        ];
        let mut members = self.remote.all(&rest, "members")?;
        if !self.remote.json {
            for member in &mut members {
                let streams = member["streams"].as_array().cloned().unwrap_or_default();
                let kinds = streams.iter().map(|stream| stream["mediaType"].clone());
                member["streams"] = kinds.collect();
            }
        }
        Ok(self.remote.list(&columns, members))
    }
}

impl KickArgs {
    pub(super) fn run(&self) -> CommandOutput {
        let (channel, uid) = (path_segment(&self.channel), path_segment(&self.uid));
        let body = given(&[
            ("durationS", Some(self.duration_s.into())),
            ("reason", self.reason.as_ref().map(|text| json!(text))),
        ]);
        let rest = format!("channels/{channel}/members/{uid}/kick");
        let done = self.remote.post(&rest, &body)?;
        // The user need not have been there.
        let sentence = match self.duration_s {
            0 => "kicked".to_owned(),
            seconds => format!("kicked, and banned for {seconds} s"),
        };
        Ok(self.remote.one(&done, sentence))
    }
}

impl BansArgs {
    pub(super) fn run(&self) -> CommandOutput {
        let remote = &self.remote;
        match self.action.as_ref().unwrap_or(&BansCommand::List { channel: None }) {
            BansCommand::List { channel } => {
                let rest = match channel {
                    Some(channel) => format!("channels/{}/bans", path_segment(channel)),
                    None => "bans".to_owned(),
                };
                let columns = [
                    ("CHANNEL", "/channelName"),
                    ("UID", "/uid"),
                    ("BY", "/by"),
                    ("LEFT_MS", "/leftMs"),
                ];
                let bans = remote.get(&rest)?["bans"].take();
                Ok(remote.list(&columns, bans.as_array().cloned().unwrap_or_default()))
            }
            BansCommand::Lift { channel, uid } => {
                let rest = format!("channels/{}/bans/{}", path_segment(channel), path_segment(uid));
                let done = remote.ask(Method::DELETE, &remote.path(&rest), None)?;
                Ok(remote.one(&done, format!("lifted {}", done["lifted"])))
            }
            BansCommand::LiftHold { channel } => {
                let rest = format!("channels/{}/hold", path_segment(channel));
                let done = remote.ask(Method::DELETE, &remote.path(&rest), None)?;
                Ok(remote.one(&done, format!("lifted {}", done["lifted"])))
            }
        }
    }
}

impl KeysArgs {
    pub(super) fn run(&self) -> CommandOutput {
        let remote = &self.remote;
        let path = if self.all_apps { "/v1/keys".to_owned() } else { remote.path("keys") };
        match self.action.as_ref().unwrap_or(&KeysCommand::List) {
            KeysCommand::List => {
                let columns = [
                    ("ID", "/id"),
                    ("SCOPES", "/scopes"),
                    ("NAME", "/name"),
                    ("CREATED", "/createdAt"),
                    ("EXPIRES", "/expiresAt"),
                ];
                let keys = remote.ask(Method::GET, &path, None)?["keys"].take();
                Ok(remote.list(&columns, keys.as_array().cloned().unwrap_or_default()))
            }
            KeysCommand::Create { scope, name } => {
                let scope = match scope {
                    ScopeArg::Read => "read",
                    ScopeArg::Moderate => "moderate",
                    ScopeArg::Admin => "admin",
                };
                let body = json!({"scopes": [scope], "name": name});
                let made = remote.ask(Method::POST, &path, Some(&body))?;
                Ok(remote.one(&made, made["text"].as_str().unwrap_or_default().to_owned()))
            }
            KeysCommand::Revoke { id } => {
                let path = format!("{path}/{}", path_segment(id));
                let done = remote.ask(Method::DELETE, &path, None)?;
                Ok(remote.one(&done, "revoked".to_owned()))
            }
        }
    }
}

impl EventsArgs {
    pub(super) fn run(&self) -> CommandOutput {
        let after = self.after.as_ref().map(|after| format!("&after={}", path_segment(after)));
        let rest = format!("events?limit={}{}", self.limit, after.unwrap_or_default());
        let page = self.remote.get(&rest)?;
        if self.remote.json {
            return Ok(format!("{page}\n"));
        }
        let columns = [
            ("CHANNEL", "/channelName"),
            ("SEQ", "/seq"),
            ("AT", "/at"),
            ("TYPE", "/type"),
            ("DATA", "/data"),
        ];
        let rows = page["events"].as_array().cloned().unwrap_or_default();
        let next = page["nextCursor"].as_str().unwrap_or_default();
        Ok(table(&columns, &rows) + &format!("next: --after {next}\n"))
    }
}

impl HistoryArgs {
    pub(super) fn run(&self) -> CommandOutput {
        let HistoryArgs { remote, channel, uid, with, from, to } = self;
        let moment = |at: &Option<u64>| at.map(|at| at.to_string());
        let wanted = [
            ("uid", uid.clone()),
            ("with", with.clone()),
            ("from", moment(from)),
            ("to", moment(to)),
        ];
        let query: String = wanted
            .into_iter()
            .filter_map(|(key, value)| Some(format!("&{key}={}", path_segment(&value?))))
            .collect();
        let rest = format!("channels/{}/history", path_segment(channel));
        let columns =
            [("AT", "/at"), ("TYPE", "/type"), ("UID", "/uid"), ("OF", "/of"), ("DATA", "/data")];
        Ok(remote.list(&columns, remote.all_of(&rest, &query, "entries")?))
    }
}
