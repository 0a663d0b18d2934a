//! Models of the Hugging Face hub: found in the cache that transformers shares, or downloaded into it.
//!
//! What the cache has is used without asking anybody. What it lacks is downloaded in the same layout, of what a
//! model needs alone: interrupted downloads go on where they ended, and a file appears when its checksum is right.

mod cache;
mod checksum;
mod client;
mod download;
mod failures;
mod settings;
mod wanted;

pub use settings::Hub;

use crate::error::Error;
use crate::progress::{Bar, Unit};
use cache::{Cache, Snapshot};
use client::{Client, Listing, Remote};
use std::path::{Path, PathBuf};
use wanted::Weights;

/// What a model of the hub is called: `name` or `organisation/name`, and a revision after `@`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Id {
    pub name: String,
    /// A branch, a tag or a commit.
    pub revision: String,
}

impl Id {
    /// None where the text can only be a path.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, revision) = text.split_once('@').unwrap_or((text, "main"));
        let words: Vec<&str> = name.split('/').collect();
        let plain = |w: &str, more: &str| {
            w.starts_with(|c: char| c.is_ascii_alphanumeric())
                && w.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        let named = words.len() <= 2 && words.iter().all(|w| plain(w, "._-"));
        let sound = !text.contains("..") && !name.contains("--") && !name.ends_with(".gguf") && name.len() <= 96;
        // A revision becomes a path in the cache.
        let revised = revision.split('/').all(|w| plain(w, "._-+"));
        (named && sound && revised).then(|| Id { name: name.into(), revision: revision.into() })
    }

    /// Whether an organisation is named: only such a name is looked for on the net.
    pub fn is_full(&self) -> bool {
        self.name.contains('/')
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.revision.as_str() {
            "main" => f.write_str(&self.name),
            revision => write!(f, "{}@{revision}", self.name),
        }
    }
}

/// Which files of a model are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Configuration, tokenizer and chat template: all that a check reads.
    Description,
    /// The weights, too.
    Weights,
}

impl Hub {
    /// The folder of a model, where the cache has what is needed.
    pub fn cached(&self, id: &Id, need: Need) -> Option<PathBuf> {
        let snapshot = Cache::new(self.cache.as_deref()?, &id.name).snapshot(&id.revision)?;
        wanted::usable(&snapshot, need).then_some(snapshot.folder)
    }

    /// The folder of a model, after what the cache lacks of it was downloaded.
    pub fn fetch(&self, id: &Id, need: Need) -> Result<PathBuf, Error> {
        let Some(root) = &self.cache else { return Err(failures::no_cache(id)) };
        let cache = Cache::new(root, &id.name);
        let snapshot = cache.snapshot(&id.revision);
        if let Some(s) = snapshot.as_ref().filter(|s| wanted::complete(s, need)) {
            return Ok(s.folder.clone());
        }
        if let Some(variable) = &self.offline {
            let found = snapshot.filter(|s| wanted::usable(s, need));
            return found.map(|s| s.folder).ok_or_else(|| failures::offline(id, need, variable, root));
        }
        // What the cache has is not mixed with another commit of the same branch.
        let revision = snapshot.as_ref().map_or(id.revision.clone(), |s| s.commit.clone());
        let client = Client::new(self, id)?;
        let listing = client.list(&revision)?;
        let bring = Bring { client: &client, cache: &cache, listing: &listing };
        bring.description()?;
        if need == Need::Weights {
            bring.weights()?;
        }
        if snapshot.is_none() {
            cache.point(&id.revision, &listing.commit)?;
        }
        Ok(cache.at(&listing.commit).folder)
    }
}

/// One model on its way into the cache.
struct Bring<'b> {
    client: &'b Client,
    cache: &'b Cache,
    listing: &'b Listing,
}

impl Bring<'_> {
    fn description(&self) -> Result<(), Error> {
        let names = wanted::description(&self.listing.files);
        if !names.iter().any(|n| n == wanted::CONFIG) {
            return Err(failures::no_config(self.client.id(), &self.listing.files));
        }
        self.files(&names)?;
        wanted::absent(&self.listing.files).try_for_each(|name| self.cache.note_absent(&self.listing.commit, name))
    }

    fn weights(&self) -> Result<(), Error> {
        self.note_absent(wanted::SINGLE)?;
        match wanted::weights(&self.listing.files) {
            Weights::None => Ok(()),
            Weights::Single(name) => self.files(&[name]),
            // The index appears behind its files: a folder that has one has them all.
            Weights::Index(name) => {
                let index = self.remote(&name)?;
                self.blobs(std::slice::from_ref(&index))?;
                let path = self.cache.blob(&index.etag);
                let parts = wanted::parts(&path, &self.listing.files)
                    .map_err(|what| failures::bad_index(self.client.id(), &name, &what))?;
                self.files(&parts)?;
                self.cache.link(&self.listing.commit, &name, &index.etag)
            }
        }
    }

    /// Remembers, as others do, that the hub has no such file, so that it is not asked again.
    fn note_absent(&self, name: &str) -> Result<(), Error> {
        if self.listing.files.iter().any(|f| f == name) {
            return Ok(());
        }
        self.cache.note_absent(&self.listing.commit, name)
    }

    /// Downloads those of the files that are not there.
    fn files(&self, names: &[String]) -> Result<(), Error> {
        let snapshot: Snapshot = self.cache.at(&self.listing.commit);
        let absent = names.iter().filter(|n| !snapshot.has(n));
        let remotes = absent.map(|n| self.remote(n)).collect::<Result<Vec<_>, _>>()?;
        self.blobs(&remotes)?;
        remotes.iter().try_for_each(|r| self.cache.link(&self.listing.commit, &r.name, &r.etag))
    }

    fn remote(&self, name: &str) -> Result<Remote, Error> {
        self.client.head(&self.listing.commit, name)
    }

    fn blobs(&self, remotes: &[Remote]) -> Result<(), Error> {
        let bytes = remotes.iter().map(|r| r.size).sum();
        let bar = Bar::new(&format!("downloading {}", self.client.id()), Unit::Bytes(bytes));
        remotes.iter().try_for_each(|r| download::blob(self.client, self.cache, r, &bar))
    }
}

/// `config.json` and the like: a name that is a file in its folder.
fn is_file_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(_)), None)) && !name.contains('\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_paths() {
        let id = |t: &str| Id::parse(t).map(|i| (i.name, i.revision));
        let some = |n: &str, r: &str| Some((n.to_string(), r.to_string()));
        assert_eq!(id("openai-community/gpt2"), some("openai-community/gpt2", "main"));
        assert_eq!(id("EleutherAI/pythia-70m@step3000"), some("EleutherAI/pythia-70m", "step3000"));
        assert_eq!(id("a/b@refs/pr/1"), some("a/b", "refs/pr/1"));
        assert_eq!(id("gpt2"), some("gpt2", "main"));
        for path in
            ["", "/a/b", "./a", "../a", "a/../b", "a/b/c", "a/b.gguf", "a b/c", "a/b@", "a/b@../c", "a\\b", "~/a"]
        {
            assert_eq!(id(path), None, "{path}");
        }
        assert!(is_file_name("a.json") && !is_file_name("../a") && !is_file_name("a/b") && !is_file_name(""));
    }
}
