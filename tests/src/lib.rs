//! What the tests share: fixtures, engines over them, comparisons.


