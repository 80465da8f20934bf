//! The Call-ID of a SIP message (RFC 3261, 20.8), found as IPVS's engine `sip` finds it (2.7).
//!
//! In: a datagram's payload. Out: the bytes of the value, or nothing: then the engine has nothing to
//! go by. Never: anything else of the message, and no byte that is not there.

/// The longest value that the engine takes, in bytes (IPVS 0.6).
pub(crate) const MAX_CALL_ID: usize = 255;

/// The value of the first Call-ID that has one, or of its short form `i`, behind the first line.
pub(crate) fn call_id(message: &[u8]) -> Option<&[u8]> {
    let mut rest = message;
    loop {
        rest = next_line(rest)?;
        let Some(after) = name(rest) else {
            continue;
        };
        let value = skip_blanks(skip_blanks(after)?.strip_prefix(b":")?)?;
        let length = length(value);
        if length == 0 {
            rest = value;
            continue;
        }
        let (id, end) = value.split_at_checked(length)?;
        let ended = matches!(end.first(), Some(b'\r' | b'\n'));
        return (ended && length <= MAX_CALL_ID).then_some(id);
    }
}

/// What follows the next end of a line: CR, LF or both.
fn next_line(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
    let (_, text) = text.split_at_checked(end)?;
    let text = match text {
        [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => rest,
        [] => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// What follows the header's name, if the line begins with it.
fn name(line: &[u8]) -> Option<&[u8]> {
    const LONG: &[u8] = b"call-id";
    if let Some((start, rest)) = line.split_at_checked(LONG.len())
        && start.eq_ignore_ascii_case(LONG)
    {
        return Some(rest);
    }
    match line {
        [b'i' | b'I', rest @ ..] if !rest.first()?.is_ascii_alphabetic() => Some(rest),
        _ => None,
    }
}

/// Skips blanks, and one end of a line that a blank continues; nothing if none does.
fn skip_blanks(text: &[u8]) -> Option<&[u8]> {
    let blanks = |text: &[u8]| {
        let is_blank = |byte: &&u8| matches!(byte, b' ' | b'\t');
        text.iter().take_while(is_blank).count()
    };
    let text = text.get(blanks(text)..)?;
    match text {
        [b'\r' | b'\n', ..] => {
            let line = next_line(text)?;
            let skipped = blanks(line);
            (skipped > 0).then(|| line.get(skipped..)).flatten()
        }
        _ => Some(text),
    }
}

/// The length of `word [ "@" word ]`; 0 if a word is missing.
fn length(value: &[u8]) -> usize {
    let first = word(value);
    match value.get(first..) {
        Some([b'@', host @ ..]) if first > 0 => match word(host) {
            0 => 0,
            second => first + 1 + second,
        },
        _ => first,
    }
}

/// The length of a word (RFC 3261, 25.1).
fn word(text: &[u8]) -> usize {
    let is_of_word =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~()<>:\\\"/[]?{}".contains(byte);
    text.iter().take_while(|byte| is_of_word(byte)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each as the kernel was recorded to take it.
    #[test]
    fn what_is_a_call_id() {
        let long = "q".repeat(255);
        let message = |header: &str| format!("INVITE sip:u@h SIP/2.0\r\nVia: x\r\n{header}");
        for (header, expected) in [
            ("Call-ID: a@x\r\nCSeq: 1\r\n\r\n", Some("a@x")),
            ("i: a@x\r\n", Some("a@x")),
            ("call-id:a@x\r\n", Some("a@x")),
            ("CALL-ID  :\t a@x\r\n", Some("a@x")),
            ("Call-ID: a@x\n", Some("a@x")),
            ("Call-ID: a@x\r", Some("a@x")),
            ("Call-ID: a@x", None),
            ("Call-ID: a@x junk\r\n", None),
            ("Call-ID: \r\n\r\n", None),
            ("Call-ID: \r\n a@x\r\n", Some("a@x")),
            ("Call-ID: \r\nCall-ID: a@x\r\n", None),
            ("Call-ID: @x\r\n", None),
            ("Call-ID: @x\r\nCall-ID: y\r\n", Some("y")),
            ("Call-ID: a@\r\n", None),
            ("Call-ID: k;l@x\r\n", None),
            ("Call-ID: a@x@y\r\n", None),
            ("Call-IDx: c@c\r\nCall-ID: zz\r\n", None),
            ("id: c@c\r\nCall-ID: zz\r\n", Some("zz")),
            (" Call-ID: c@c\r\nCall-ID: zz\r\n", Some("zz")),
            (&format!("i: {long}\r\n"), Some(&*long)),
            (&format!("i: {long}q\r\n"), None),
        ] {
            let message = message(header);
            let found = call_id(message.as_bytes());
            assert_eq!(found, expected.map(str::as_bytes), "{header:?}");
        }
        // The first line is none of the headers.
        assert_eq!(call_id(b"Call-ID: a@x\r\n\r\n"), None);
        assert_eq!(call_id(b"\r\nCall-ID: a@x\r\n"), Some(&b"a@x"[..]));
        for nothing in [&b""[..], b"\r", b"\r\n", b"x\ri", b"x\r\ni:", b"x\nCall-ID"] {
            assert_eq!(call_id(nothing), None);
        }
    }
}
