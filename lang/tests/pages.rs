//! The pages on the codes, and the examples on them.

mod common;

use common::render;
use steer_lang::{FileId, codes, parse};

#[test]
fn every_code_has_a_page() {
    for (code, page) in codes::PAGES {
        assert!(page.starts_with(&format!("# {code}: ")), "{code}");
        let examples = page.contains(&format!("```steer fails={code}\n")) && page.contains("```steer ok\n");
        assert!(examples || page.contains("```text\n"), "{code} shows nothing");
        assert!(page.lines().all(|l| l.len() <= 100), "{code} has a long line");
    }
}

/// The examples of the pages are of the language, unless the page is on what is not.
#[test]
fn examples_of_the_pages() {
    for (code, page) in codes::PAGES {
        for part in page.split("```steer ").skip(1) {
            let (tag, rest) = part.split_once('\n').unwrap();
            let text = rest.split("```").next().unwrap();
            let (_, diags) = parse(FileId(0), text);
            if tag == "ok" {
                assert!(diags.is_empty(), "{code}: {}", render(text, &diags));
                assert_eq!(steer_lang::format(text).as_deref(), Ok(text), "{code} is not formatted");
            } else {
                assert_eq!(tag, format!("fails={code}"));
                assert!(diags.iter().all(|d| d.code == *code), "{code}: {}", render(text, &diags));
            }
        }
    }
}
