//! A member that comes back as docs/protocol.md section 14 says: it keeps ticket, epoch, position and ids across its
//! sockets, and everything that it receives.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use lianmai_test_support::raw_ws::{RawWs, Received};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::server::TEST_TIMEOUT;

/// A member of one channel.
#[derive(Debug)]
pub(crate) struct ReconnectingMember {
    server: SocketAddr,
    socket: RawWs,
    /// Events and notices of this socket.
    pub(crate) heard: Vec<Value>,
    /// The answer to its `join`.
    pub(crate) joined: Value,
    pub(crate) ticket: String,
    attempt: u64,
    /// The position of the last event that it applied.
    pub(crate) at: (Value, u64),
    last_id: u64,
}

impl ReconnectingMember {
    /// Joins the app `demo`.
    pub(crate) async fn join(server: SocketAddr, channel: &str, uid: u64) -> Result<Self> {
        let params = json!({"appkey": "demo", "channelName": channel, "uid": uid.to_string()});
        ReconnectingMember::join_with(server, params).await
    }

    pub(crate) async fn join_with(server: SocketAddr, params: Value) -> Result<Self> {
        let socket =
            timeout(TEST_TIMEOUT, RawWs::connect(server)).await.context("no connection")??;
        let mut member = ReconnectingMember {
            server,
            socket,
            heard: Vec::new(),
            joined: Value::Null,
            ticket: String::new(),
            attempt: 0,
            at: (Value::Null, 0),
            last_id: 0,
        };
        member.joined = member.call("join", params).await?;
        let joined = member.joined.clone();
        member.take_picture(&joined)?;
        member.take_ticket(&joined).await?;
        Ok(member)
    }

    fn take_picture(&mut self, picture: &Value) -> Result<()> {
        self.at = (picture["epoch"].clone(), picture["seq"].as_u64().context("no seq")?);
        Ok(())
    }

    async fn take_ticket(&mut self, answer: &Value) -> Result<()> {
        self.ticket = answer["ticket"].as_str().context("no ticket")?.to_owned();
        let ping = self.request(self.last_id + 1, "ping", &json!({"k": answer["k"]})).await?;
        self.last_id += 1;
        ensure!(ping["result"]["seq"] == self.at.1, "a gap: {ping}, applied {:?}", self.at);
        Ok(())
    }

    /// Sends a request with the next id and waits for its result.
    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        self.last_id += 1;
        let mut answer = self.request(self.last_id, method, &params).await?;
        ensure!(answer.get("error").is_none(), "{method}: {answer}");
        Ok(answer["result"].take())
    }

    /// The last id that was used.
    pub(crate) fn last_id(&self) -> u64 {
        self.last_id
    }

    /// Sends a request with this id and waits for its answer, whatever it is.
    pub(crate) async fn request(&mut self, id: u64, method: &str, params: &Value) -> Result<Value> {
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.socket.send(&request.to_string()).await?;
        let answer = async {
            loop {
                for message in self.messages().await? {
                    if message["id"] == id {
                        return anyhow::Ok(message);
                    }
                }
            }
        };
        timeout(TEST_TIMEOUT, answer).await.with_context(|| format!("no answer to {method}"))?
    }

    /// Waits for the next text and processes it.
    async fn messages(&mut self) -> Result<Vec<Value>> {
        let messages = self.socket.messages().await?;
        for message in &messages {
            let params = &message["params"];
            if params["epoch"] == self.at.0
                && let Some(seq) = params["seq"].as_u64()
            {
                ensure!(seq == self.at.1 + 1, "{message} behind {:?}", self.at);
                self.at.1 = seq;
            }
            if message.get("method").is_some() {
                self.heard.push(message.clone());
            }
        }
        Ok(messages)
    }

    /// Waits for an event or notice on this socket, or finds one that was received before.
    pub(crate) async fn hear(&mut self, method: &str) -> Result<Value> {
        let search = async {
            loop {
                let found = self.heard.iter().find(|message| message["method"] == method);
                if let Some(found) = found {
                    return anyhow::Ok(found["params"].clone());
                }
                self.messages().await?;
            }
        };
        match timeout(TEST_TIMEOUT, search).await {
            Ok(heard) => heard.with_context(|| method.to_owned()),
            Err(_) => bail!("`{method}` was not heard, but: {:?}", self.heard),
        }
    }

    /// How often it received a method on this socket.
    pub(crate) fn count(&self, method: &str) -> usize {
        self.heard.iter().filter(|message| message["method"] == method).count()
    }

    /// Waits for the end of the socket. Returns the code of the close frame, if there was one.
    pub(crate) async fn closed(&mut self) -> Result<Option<u16>> {
        let end = async {
            loop {
                match self.socket.receive().await? {
                    Received::Close(code, _) => return anyhow::Ok(Some(code)),
                    Received::Gone => return Ok(None),
                    Received::Text(text) => {
                        let value: Value = serde_json::from_slice(&text)?;
                        match value {
                            Value::Array(many) => self.heard.extend(many),
                            one => self.heard.push(one),
                        }
                    }
                    Received::Pong(_) => {}
                }
            }
        };
        timeout(TEST_TIMEOUT, end).await.context("the socket does not end")?
    }

    /// Closes the old socket, opens a new one and sends `reconnect`. Returns the result.
    pub(crate) async fn reconnect(&mut self) -> Result<Value> {
        self.socket =
            timeout(TEST_TIMEOUT, RawWs::connect(self.server)).await.context("no way")??;
        self.heard.clear();
        self.attempt += 1;
        let params = json!({"ticket": self.ticket, "attempt": self.attempt, "epoch": self.at.0,
                            "seq": self.at.1, "n": 0});
        self.last_id += 1;
        let answer = self.request(self.last_id, "reconnect", &params).await?;
        let result = answer.get("result").cloned().with_context(|| answer.to_string())?;
        match result["outcome"].as_str() {
            Some("replayed") => {}
            Some("snapshot") => self.take_picture(&result["snapshot"])?,
            _ => return Ok(result),
        }
        // The missed events are those before the answer to the ping.
        self.take_ticket(&result).await?;
        Ok(result)
    }

    /// Like [`ReconnectingMember::reconnect`]; the outcome must be this one.
    pub(crate) async fn reconnect_expecting(&mut self, outcome: &str) -> Result<Value> {
        let result = self.reconnect().await?;
        ensure!(result["outcome"] == outcome, "not {outcome}: {result}");
        Ok(result)
    }
}

/// The member of that uid in a picture.
pub(crate) fn member_of(picture: &Value, uid: u64) -> Option<&Value> {
    let uid = uid.to_string();
    picture["members"].as_array()?.iter().find(|member| member["uid"] == *uid)
}
