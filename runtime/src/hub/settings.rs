//! Where models are cached and downloaded from, as the environment says.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// The hub and its cache.
#[derive(Clone, Debug)]
pub struct Hub {
    /// The folder with `models--organisation--name`.
    pub cache: Option<PathBuf>,
    /// Begins every address.
    pub endpoint: String,
    pub token: Option<String>,
    /// The variable that forbids requests.
    pub offline: Option<String>,
    /// Certificates to trust in place of those that are built in.
    pub certificates: Option<PathBuf>,
    /// The wait before a second try; it doubles.
    pub pause: Duration,
}

impl Default for Hub {
    /// Has no cache and asks nobody.
    fn default() -> Self {
        Hub {
            cache: None,
            endpoint: "https://huggingface.co".into(),
            token: None,
            offline: Some("HF_HUB_OFFLINE".into()),
            certificates: None,
            pause: Duration::from_millis(500),
        }
    }
}

impl Hub {
    /// As huggingface_hub reads the environment.
    pub fn from_env() -> Self {
        Self::from(&|name| std::env::var_os(name))
    }

    fn from(var: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let path = |name: &str| var(name).filter(|v| !v.is_empty()).map(PathBuf::from).map(|p| from_home(p, var));
        let text = |name: &str| var(name)?.into_string().ok().map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
        let user = path("XDG_CACHE_HOME").or_else(|| path("HOME").map(|home| home.join(".cache")));
        let home = path("HF_HOME").or_else(|| user.map(|u| u.join("huggingface")));
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let on = |name: &&str| {
            text(name).is_some_and(|t| ["1", "on", "yes", "true"].contains(&t.to_ascii_lowercase().as_str()))
        };
        let file = path("HF_TOKEN_PATH").or_else(|| home.as_ref().map(|h| h.join("token")));
        let of_file = || std::fs::read_to_string(file?).ok().map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
        let default = Hub::default();
        Hub {
            cache: cache.or_else(|| home.as_ref().map(|h| h.join("hub"))),
            endpoint: text("HF_ENDPOINT").map_or(default.endpoint, |e| e.trim_end_matches('/').to_owned()),
            token: text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN")).or_else(of_file),
            offline: ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].iter().find(|n| on(n)).map(|n| n.to_string()),
            certificates: ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"].iter().find_map(|n| path(n)),
            pause: default.pause,
        }
    }
}

/// `~/cache` as the user's folder.
fn from_home(path: PathBuf, var: &dyn Fn(&str) -> Option<OsString>) -> PathBuf {
    match (path.strip_prefix("~"), var("HOME")) {
        (Ok(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Hub {
        Hub::from(&|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
    }

    #[test]
    fn the_environment_is_read_as_huggingface_hub_does() {
        let cache = |pairs: &[(&str, &str)]| of(pairs).cache.map(|p| p.display().to_string());
        assert_eq!(cache(&[]), None);
        assert_eq!(cache(&[("HOME", "/h")]).as_deref(), Some("/h/.cache/huggingface/hub"));
        assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]).as_deref(), Some("/x/huggingface/hub"));
        assert_eq!(cache(&[("HOME", "/h"), ("HF_HOME", "~/f")]).as_deref(), Some("/h/f/hub"));
        assert_eq!(cache(&[("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")]).as_deref(), Some("/c"));
        let hub = of(&[("HF_ENDPOINT", "http://127.0.0.1:9/"), ("HF_TOKEN", " t\n"), ("HF_HUB_OFFLINE", "0")]);
        assert_eq!((hub.endpoint.as_str(), hub.token.as_deref(), hub.offline), ("http://127.0.0.1:9", Some("t"), None));
        assert_eq!(of(&[("TRANSFORMERS_OFFLINE", "Yes")]).offline.as_deref(), Some("TRANSFORMERS_OFFLINE"));
        assert_eq!(of(&[("HF_ENDPOINT", "")]).endpoint, "https://huggingface.co");
    }
}
