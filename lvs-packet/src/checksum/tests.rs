use super::*;

#[test]
fn crc_of_the_check_string() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}
