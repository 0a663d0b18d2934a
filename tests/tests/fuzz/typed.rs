//! What is typed at the prompt and in editors: it need not be a script.

use super::mutated;
use steer::assist::{Known, complete, definition, hover};
use steer::repl::{inputs, is_complete};

#[test]
fn what_is_typed_is_cut_completed_and_explained() {
    let session = "model \"tiny-llama\"\n## Of joy.\nhook cheer(alpha = 4) at blocks[1..3].resid.post on prompt[-1] | generated {\n    h += alpha * unit(mood[layer])\n}\n\
                   :set alpha 2\nblocks[1].attn.pattern[head = 2, key = -1] of \"Tom {alpha} went\" with cheer(2)\ndiff clean, corrupt with cheer\n\
                   sweep s over b in blocks, t in tokens(clean) {\n    measure log_prob(\" the\") on clean\n}\nplot s as heat\n1 + norm(mood[3])\n";
    let words = [
        "hook ", " of ", "[head = ", "\"", "{", "}", ":", "diff ", " with ", "\n", "é🙂", "blocks[", "..", "#", " at ",
        "(", "=",
    ];
    mutated("typed", &[session.as_bytes().to_vec()], &words, |i, bytes| {
        let Ok(text) = String::from_utf8(bytes.to_vec()) else { return false };
        let parts = inputs(&text);
        // Nothing is lost but line ends.
        let bare = |t: &str| t.chars().filter(|c| !c.is_whitespace()).collect::<String>();
        assert_eq!(bare(&parts.concat()), bare(&text));
        for part in &parts {
            let _ = is_complete(part);
        }
        let mut at = (i * 7919) % (text.len() + 1);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let known = Known::default();
        let completion = complete(&text, at, &known);
        assert!(completion.from <= at && text.is_char_boundary(completion.from));
        if let Some(found) = hover(&text, at, &known) {
            assert!(text.get(found.range).is_some());
        }
        let _ = definition(&text, at, &known);
        true
    });
}
