//! Rules that the code itself keeps: documents, imports, circles, the checklist.

mod checklist;
mod circles;
mod tidy;
