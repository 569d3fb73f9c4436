//! What an object store says of an error: a document of XML, of which people want two elements.

use std::borrow::Cow;

/// A text with such documents in it, each as `Code: message` instead.
pub fn brief(text: &str) -> Cow<'_, str> {
    let Some((before, document, after)) = cut(text) else { return Cow::Borrowed(text) };
    let words = [element(document, "Code"), element(document, "Message")];
    let words: Vec<_> = words.into_iter().flatten().filter(|word| !word.is_empty()).collect();
    let said = if words.is_empty() { "an error".to_owned() } else { words.join(": ") };
    Cow::Owned(format!("{before}{said}{}", brief(after)))
}

/// An element of the first such document.
pub fn said<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, document, _) = cut(text)?;
    element(document, name)
}

/// What stands before the first document, it, and what stands behind it. One that is cut short goes to the end.
fn cut(text: &str) -> Option<(&str, &str, &str)> {
    const END: &str = "</Error>";
    let error = text.find("<Error>").or_else(|| text.find("<Error "))?;
    let declared = text.get(..error)?.rfind("<?xml").unwrap_or(error);
    let end = text.get(error..)?.find(END).map_or(text.len(), |at| error + at + END.len());
    Some((text.get(..declared)?, text.get(declared..end)?, text.get(end..)?))
}

fn element<'t>(document: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = document.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchBucket</Code>\
        <Message>The bucket does not exist</Message><BucketName>x</BucketName></Error>";

    #[test]
    fn of_a_document_code_and_message_stay() {
        assert_eq!(
            brief(&format!("status 404: {ANSWER}, in vain")),
            "status 404: NoSuchBucket: The bucket does not exist, in vain"
        );
        assert_eq!(brief(&format!("{ANSWER} {ANSWER}")).matches("NoSuchBucket").count(), 2);
        assert_eq!(brief("<Error><Code>SlowDown</Code><Message></Message></Error>"), "SlowDown");
        assert_eq!(brief("a: <Error><RequestId>1"), "a: an error");
        assert_eq!(brief("nothing of the kind"), "nothing of the kind");
        assert_eq!(said(ANSWER, "BucketName"), Some("x"));
        assert_eq!(said(ANSWER, "Region"), None);
    }
}
