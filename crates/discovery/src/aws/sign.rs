//! The signature of a request: Signature Version 4, by `aws-sigv4`.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};

use super::{AwsError, Service};

/// What is signed: a POST.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unsigned<'a> {
    pub(super) service: Service,
    pub(super) region: &'a str,
    pub(super) url: &'a str,
    pub(super) headers: &'a [(&'static str, String)],
    pub(super) body: &'a str,
}

/// The headers to add, which hold the signature.
///
/// # Errors
/// When the address or a header cannot be signed. Nothing was sent.
pub(super) fn headers(
    unsigned: &Unsigned<'_>,
    credentials: &Credentials,
    now: SystemTime,
) -> Result<Vec<(String, String)>, AwsError> {
    let failed = |what: String| AwsError::Sign { what };
    let identity = credentials.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(unsigned.region)
        .name(unsigned.service.name())
        .time(now)
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| failed(error.to_string()))?
        .into();
    let headers = unsigned.headers.iter().map(|(name, value)| (*name, value.as_str()));
    let body = SignableBody::Bytes(unsigned.body.as_bytes());
    let request =
        SignableRequest::new("POST", unsigned.url, headers, body).map_err(|error| failed(error.to_string()))?;
    let signed = sign(request, &params).map_err(|error| failed(error.to_string()))?;
    let (instructions, _) = signed.into_parts();
    Ok(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Golden values by botocore 1.44 (`SigV4Auth`) for the same request at the same time.
    #[test]
    fn a_signature_is_that_of_botocore() {
        let credentials = Credentials::new("AKIDEXAMPLE", "secret", Some("token".to_owned()), None, "test");
        let unsigned = Unsigned {
            service: Service::Ec2,
            region: "eu-west-1",
            url: "http://127.0.0.1:5000/",
            headers: &[("content-type", "application/x-www-form-urlencoded; charset=utf-8".to_owned())],
            body: "Action=DescribeInstances&Version=2016-11-15",
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let headers = headers(&unsigned, &credentials, now).expect("signed");
        let of = |name: &str| headers.iter().find(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, it)| it.as_str());
        assert_eq!(of("x-amz-date"), Some("20231114T221320Z"));
        assert_eq!(of("x-amz-security-token"), Some("token"));
        assert_eq!(of("authorization"), Some(GOLDEN));
    }

    const GOLDEN: &str = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20231114/eu-west-1/ec2/aws4_request, \
                          SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, \
                          Signature=f46c36535896c5007ce11fddf51625a9aa427cd006fe7bf0371fbd3ccfc148a9";
}
