//! Checks the forwards of an app. Comes in: URLs with placeholders as written, and the values for them. Goes out:
//! templates and reports of problems, and URLs. Deliberately absent: connections.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use lianmai_media_plane::upstream::{BadUrl, UpstreamUrl};
use lianmai_protocol::limits::MAX_CHANNEL_NAME_BYTES;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Config;
use super::apps::secret;
use super::raw::RawForward;
use super::validate::Check;

/// Maximum number of forwards of one app.
const MAX_FORWARDS: usize = 8;
/// The characters to encode: all except letters, digits and these.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Another server that gets each publish of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardConfig {
    /// The URL at that server.
    pub template: ForwardTemplate,
    /// PEM file with the certificate authorities that RTMPS trusts; those of browsers when absent.
    pub ca: Option<PathBuf>,
}

/// A URL with placeholders. `Debug` hides it, because it may hold keys.
#[derive(Clone, PartialEq, Eq)]
pub struct ForwardTemplate(Vec<Part>);

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Channel,
    Uid,
    Kind,
}

impl ForwardTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// A description of the problem without any text of the template, because that may hold keys.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, tail)) = rest.split_once('{') {
            let (name, tail) = tail.split_once('}').ok_or("a `{` is not closed")?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(match name {
                "channel" => Part::Channel,
                "uid" => Part::Uid,
                "kind" => Part::Kind,
                _ => return Err("it has a placeholder other than {channel}, {uid} and {kind}".into()),
            });
            rest = tail;
        }
        parts.push(Part::Text(rest.to_owned()));
        let is_stray = |part: &Part| matches!(part, Part::Text(text) if text.contains('}'));
        if parts.iter().any(is_stray) {
            return Err("a `}` has no `{`".into());
        }
        // Members choose channel names, but must not choose the host.
        let head = text.split('{').next().unwrap_or_default();
        let has_host = head.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
        let template = Self(parts);
        // Each byte of a name may need three characters.
        let longest = "\u{ff}".repeat(MAX_CHANNEL_NAME_BYTES.div_ceil(2));
        let filled = template.url(&longest, &u64::MAX.to_string(), "screenShare");
        match filled.and_then(|_| template.url("a", "1", "av")) {
            Ok(_) if !has_host => {
                Err("its host and port must be written out, without placeholders".into())
            }
            Ok(_) => Ok(template),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether the URL depends on the kind of the publish.
    #[must_use]
    pub fn has_kind(&self) -> bool {
        self.0.contains(&Part::Kind)
    }

    /// The URL for a publish. The values are encoded, so they cannot add to the path or query.
    ///
    /// # Errors
    /// [`BadUrl`], but never for valid values of a channel and a member.
    pub fn url(&self, channel: &str, uid: &str, kind: &str) -> Result<UpstreamUrl, BadUrl> {
        let mut url = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => url.push_str(text),
                Part::Channel => encode(&mut url, channel),
                Part::Uid => encode(&mut url, uid),
                Part::Kind => encode(&mut url, kind),
            }
        }
        UpstreamUrl::parse(&url)
    }
}

impl fmt::Debug for ForwardTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ForwardTemplate(***)")
    }
}

fn encode(url: &mut String, value: &str) {
    // `.` and `..` are encoded, too, because some servers read them as folders.
    if value.bytes().all(|byte| byte == b'.') {
        url.extend(std::iter::repeat_n("%2E", value.len()));
    } else {
        url.extend(utf8_percent_encode(value, ENCODED));
    }
}

/// Checks the forwards of one app.
pub(super) fn forwards(
    check: &mut Check,
    path: &str,
    raw: Option<Vec<RawForward>>,
) -> Vec<ForwardConfig> {
    let raw = raw.unwrap_or_default();
    if raw.len() > MAX_FORWARDS {
        check.problem(path, format!("{} are more than {MAX_FORWARDS}", raw.len()));
    }
    let mut forwards = Vec::new();
    for (i, raw) in raw.into_iter().enumerate() {
        let path = check.element(path, i);
        let url_path = format!("{path}.url");
        let Some(url) = secret(check, &url_path, raw.url, 0) else { continue };
        let template = match ForwardTemplate::parse(url.expose()) {
            Ok(template) => template,
            Err(error) => {
                check.problem(url_path, error);
                continue;
            }
        };
        if let Some(ca) = raw.ca.as_ref().filter(|ca| !ca.is_file()) {
            check.problem(format!("{path}.ca"), format!("`{}` is no file", ca.display()));
        }
        let forward = ForwardConfig { template, ca: raw.ca };
        if forwards.iter().any(|other: &ForwardConfig| other.template == forward.template) {
            check.problem(url_path, "is that of another forward of the app too");
        }
        forwards.push(forward);
    }
    forwards
}

/// Reports forwards to this server itself, as far as they are visible without name resolution. The rest is detected
/// when the connection is made.
pub(super) fn loops(check: &mut Check, config: &Config) {
    for (i, app) in config.apps.iter().enumerate() {
        for (j, forward) in app.forwards.iter().enumerate() {
            if forward.template.url("a", "1", "av").is_ok_and(|url| is_own(&url, config)) {
                let path = format!("{}.forward", check.element("apps", i));
                let path = format!("{}.url", check.element(&path, j));
                check.problem(path, "is this server itself: media would go round in a circle");
            }
        }
    }
}

fn is_own(url: &UpstreamUrl, config: &Config) -> bool {
    let host = url.host().to_ascii_lowercase();
    let rtmp = (config.rtmp_listen, config.public_rtmp_port);
    let rtmps = config.rtmps_listen.map(|listen| (listen, config.public_rtmps_port));
    [rtmp].into_iter().chain(rtmps).any(|(listen, public_port)| {
        if config.public_host.as_ref() == Some(&host)
            && url.port() == public_port.unwrap_or(listen.port())
        {
            return true;
        }
        let listens = listen.ip().to_canonical();
        url.port() == listen.port()
            && match host.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
                Ok(ip) if listens.is_unspecified() => ip.is_loopback() || ip.is_unspecified(),
                // The unspecified address reaches loopback.
                Ok(ip) => ip == listens || ip.is_unspecified() && listens.is_loopback(),
                Err(_) => {
                    host == "localhost" && (listens.is_loopback() || listens.is_unspecified())
                }
            }
    })
}

#[cfg(test)]
mod tests {
    //! Proves no rule of the protocol: URLs of forwards.

    use super::*;

    fn stream(template: &str, channel: &str) -> String {
        let template = ForwardTemplate::parse(template).unwrap();
        template.url(channel, "7", "av").unwrap().target().stream().to_owned()
    }

    #[test]
    fn values_are_filled_in_and_escaped() {
        assert_eq!(
            stream("rtmp://h/app/{channel}-{uid}-{kind}?k={channel}", "room"),
            "room-7-av?k=room"
        );
        assert_eq!(
            stream("rtmp://h/app/{channel}", "a/b?c=d&e #%{uid}"),
            "a%2Fb%3Fc%3Dd%26e%20%23%25%7Buid%7D"
        );
        assert_eq!(stream("rtmp://h/app/{channel}", ".."), "%2E%2E");
        assert_eq!(stream("rtmp://h/app/{channel}", "v1.2"), "v1.2");
        let app = ForwardTemplate::parse("rtmps://h/app/{channel}/{uid}").unwrap();
        assert_eq!(app.url("x/y", "7", "av").unwrap().target().app(), "app/x%2Fy");
    }

    /// The problems with the forwards of the app `a`.
    fn problems(forwards: &str, flags: &[(&str, &str)]) -> Vec<(String, String)> {
        let apps = format!("[{{ appkey = \"a\", mode = \"debug\", forward = [{forwards}] }}]");
        let env = [("LIANMAI_APPS".to_owned(), apps)].into_iter();
        let flags: Vec<_> = flags.iter().map(|(key, text)| (*key, (*text).to_owned())).collect();
        let found = Config::load(None, env, &flags).map_or_else(|found| found.0, |_| Vec::new());
        found.into_iter().map(|problem| (problem.path, problem.text)).collect()
    }

    fn url(url: &str) -> String {
        format!("{{ url = \"{url}\" }}")
    }

    #[test]
    fn a_forward_to_this_server_is_refused() {
        let public = [("server.public_host", "live.example.com")];
        for (address, flags) in [
            ("127.0.0.1", &[][..]),
            ("127.0.0.1:1935", &[]),
            ("localhost", &[]),
            ("0.0.0.0", &[]),
            ("[::ffff:127.0.0.1]", &[]),
            ("live.example.com", &public),
            ("LIVE.example.com:1935", &public),
        ] {
            let found = problems(&url(&format!("rtmp://{address}/live/key")), flags);
            let [(path, text)] = &found[..] else { panic!("{address}: {found:?}") };
            assert_eq!(path, "apps[0].forward[0].url");
            assert!(text.contains("this server itself"), "{text}");
        }
        for address in ["127.0.0.1:1936", "127.0.0.2", "cdn.example.com", "[::1]"] {
            let found = problems(&url(&format!("rtmp://{address}/live/key")), &public);
            assert_eq!(found, [], "{address}");
        }
    }

    #[test]
    fn problems_of_forwards_are_reported() {
        let paths = |forwards: &str| -> Vec<String> {
            let found = problems(forwards, &[]);
            assert!(!found.iter().any(|(_, text)| text.contains("secret")), "{found:?}");
            found.into_iter().map(|(path, _)| path).collect()
        };
        let good = url("rtmp://h/app/secret");
        assert_eq!(paths(&good), [""; 0]);
        assert_eq!(paths("{}"), ["apps[0].forward[0].url"]);
        assert_eq!(paths("{ url = 7 }"), ["apps[0].forward[0].url"]);
        assert_eq!(paths(&url("rtmp://{uid}/app/secret")), ["apps[0].forward[0].url"]);
        assert_eq!(paths(&format!("{good}, {good}")), ["apps[0].forward[1].url"]);
        let ca = "{ url = \"rtmps://h/app/secret\", ca = \"/nowhere/ca.pem\" }";
        assert_eq!(paths(ca), ["apps[0].forward[0].ca"]);
        let many: Vec<_> = (0..9).map(|i| url(&format!("rtmp://h{i}/app/secret"))).collect();
        assert_eq!(paths(&many.join(", ")), ["apps[0].forward"]);
    }

    #[test]
    fn bad_templates_are_refused_without_showing_them() {
        for template in [
            "rtmp://{channel}/app/key",
            "rtmp://h:{uid}/app/key",
            "{kind}://h/app/key",
            "rtmp://h/app/{key}",
            "rtmp://h/app/{}",
            "rtmp://h/app/{channel",
            "rtmp://h/app/key}",
            "rtmp://h/app/{{channel}}",
            "http://h/app/key",
            "rtmp://h/key",
            &format!("rtmp://h/app/{{channel}}{}", "x".repeat(1950)),
        ] {
            let error = ForwardTemplate::parse(template).unwrap_err();
            assert!(!error.contains("key"), "{template}: {error}");
        }
        let template = ForwardTemplate::parse("rtmp://h/app/secret").unwrap();
        assert!(!format!("{template:?}").contains("secret"));
        assert!(!template.has_kind());
    }
}
