//! What the network's relay tells, in words: a line for each thing that was refused.

use crate::net::Event;
use crate::record::Blocked;
use crate::ui::Ui;

/// Says it.
pub(super) fn say(ui: &Ui, event: &Event) {
    match event {
        Event::Blocked(blocked) => ui.note(&line(blocked)),
        Event::Failed { what, source } => ui.warn(&format!("{what}: {source}")),
    }
}

/// One line: what was tried, why it was refused, and the line of `sandbox.toml` that would allow it.
fn line(blocked: &Blocked) -> String {
    let host = match (&blocked.name, &blocked.address) {
        (Some(name), _) => name.clone(),
        (None, Some(address)) if address.contains(':') => format!("[{address}]"),
        (None, Some(address)) => address.clone(),
        (None, None) => "something".to_owned(),
    };
    let port = blocked.port.map(|port| format!(":{port}")).unwrap_or_default();
    let protocol = if blocked.protocol.as_deref() == Some("udp") { "udp:" } else { "" };
    let remedy = blocked.remedy.as_ref().map(|line| format!("; in [network]: {line}")).unwrap_or_default();
    format!("blocked {protocol}{host}{port}: {}{remedy}", blocked.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line_with_its_remedy() {
        let name = Blocked {
            protocol: None,
            name: Some("evil.example".to_owned()),
            address: None,
            port: None,
            reason: "no rule names it".to_owned(),
            remedy: Some("allow = [\"evil.example:443\"]".to_owned()),
            count: 1,
        };
        assert_eq!(line(&name), "blocked evil.example: no rule names it; in [network]: allow = [\"evil.example:443\"]");
        let number = Blocked {
            protocol: Some("udp".to_owned()),
            name: None,
            address: Some("fd00::1".to_owned()),
            port: Some(53),
            remedy: None,
            ..name
        };
        assert_eq!(line(&number), "blocked udp:[fd00::1]:53: no rule names it");
    }
}
