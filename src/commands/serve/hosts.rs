//! The names by which the server is asked for, in the header `Host` of a request.

use std::net::IpAddr;

/// The hosts whose requests are answered: every IP address, `localhost`, and those with these names. A name that is
/// none of them may be that of another site.
pub(super) struct Hosts(pub(super) Vec<String>);

impl Hosts {
    /// Whether a request with `host` in its header, perhaps with a port, is answered.
    pub(super) fn knows(&self, host: &str) -> bool {
        let host = host_of(host);
        let is_address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
        let is_local = host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost");
        is_address || is_local || self.0.iter().any(|name| host.eq_ignore_ascii_case(name.trim_end_matches('.')))
    }
}

/// A host without its port and without the dot that may end a name.
pub(super) fn host_of(host: &str) -> &str {
    let without_port = match host.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            if port.bytes().all(|byte| byte.is_ascii_digit()) { host } else { return "" }
        }
        _ => host,
    };
    without_port.trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_localhost_and_given_names_are_known_and_no_others() {
        let hosts = Hosts(vec!["mybox".into()]);
        for known in [
            "127.0.0.1",
            "127.0.0.1:8000",
            "[::1]:8000",
            "192.168.1.7:80",
            "localhost",
            "LOCALHOST.:1",
            "a.localhost",
            "MyBox:8000",
        ] {
            assert!(hosts.knows(known), "{known}");
        }
        for other in [
            "evil.example",
            "evil.example:8000",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "notlocalhost",
            "",
            "127.0.0.1:x",
            "mybox.evil.example",
        ] {
            assert!(!hosts.knows(other), "{other}");
        }
    }
}
