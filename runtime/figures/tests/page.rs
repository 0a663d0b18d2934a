//! The page of an experiment: well-formed, complete, closed to the world, and made of texts.

mod common;

use roxmltree::{Document, Node};
use steer_figures::Page;

/// The page as XML, without what is in its style and script.
fn parsed(html: &str) -> String {
    let mut out = html.strip_prefix("<!doctype html>\n").unwrap().to_string();
    for tag in ["style", "script"] {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        assert_eq!((out.matches(&open).count(), out.matches(&close).count()), (1, 1), "one {tag}");
        let (from, to) = (out.find(&open).unwrap() + open.len(), out.find(&close).unwrap());
        out.replace_range(from..to, "");
    }
    out
}

fn having<'a>(doc: &'a Document<'a>, class: &'a str) -> impl Iterator<Item = Node<'a, 'a>> {
    let is = move |n: &Node<'_, '_>| n.attribute("class").is_some_and(|c| c.split(' ').any(|c| c == class));
    doc.descendants().filter(is)
}

fn text(node: Node<'_, '_>) -> String {
    node.descendants().filter(|n| n.is_text()).filter_map(|n| n.text()).collect()
}

#[test]
fn a_page_is_well_formed_and_has_everything() {
    let page = common::page();
    let xml = parsed(&page.html());
    let doc = Document::parse(&xml).unwrap();
    let all = |tag: &str| doc.descendants().filter(|n| n.tag_name().name() == tag).count();
    assert_eq!(all("svg"), 6);
    assert_eq!(all("h2"), page.sections.len() + 1);
    assert_eq!(all("dt"), page.facts.len());
    let lines: Vec<String> = having(&doc, "line").map(text).collect();
    assert_eq!(lines.join("\n") + "\n", page.script.text, "the script is there to the letter");
    let marked: Vec<String> =
        having(&doc, "texts").flat_map(|n| n.descendants()).filter(|n| n.has_tag_name("mark")).map(text).collect();
    assert!(marked.contains(&"cheerful.".to_string()), "{marked:?}");
    assert_eq!(having(&doc, "same").count(), 1);
    // Every link leads somewhere.
    for link in doc.descendants().filter_map(|n| n.attribute("href")) {
        let id = link.strip_prefix('#').unwrap();
        assert_eq!(doc.descendants().filter(|n| n.attribute("id") == Some(id)).count(), 1, "{link}");
    }
}

#[test]
fn nothing_is_loaded_and_nothing_is_run() {
    let html = common::page().html();
    let xml = parsed(&html);
    let doc = Document::parse(&xml).unwrap();
    assert_eq!(
        html.matches("http").count(),
        html.matches("http-equiv").count() + html.matches("http://www.w3.org/2000/svg").count()
    );
    for n in doc.descendants().filter(|n| n.is_element()) {
        let tag = n.tag_name().name();
        assert!(!["img", "link", "iframe", "object", "embed", "image", "use", "b"].contains(&tag), "{tag}");
        for a in n.attributes() {
            assert!(
                !a.name().starts_with("on") && a.name() != "src" && a.name() != "style",
                "{} of {:?}",
                a.name(),
                n.tag_name()
            );
        }
    }
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(!html.contains('\u{1b}') && !html.contains('\u{202e}'));
}

#[test]
fn an_empty_page_is_a_page() {
    let xml = parsed(&Page::default().html());
    Document::parse(&xml).unwrap();
}

#[test]
fn pages_of_large_tables_are_bounded() {
    let html = common::page().html();
    assert!(html.len() < 2_500_000, "{}", html.len());
}
