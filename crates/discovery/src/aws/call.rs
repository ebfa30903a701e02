//! One call: signed, sent, and its answer sorted. EC2 takes the Query protocol and answers in XML, ECS takes and answers
//! JSON 1.1.
//!
//! Invariant: an answer has at most [`ANSWER_BYTES_MAX`] bytes and comes within the time of a call, or is an error.

use std::{
    env,
    fmt::Write as _,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use hyper::body::Bytes;

use super::{
    AwsError, Service,
    credentials::Account,
    error::Refusal,
    sign::{self, Unsigned},
    xml,
};
use crate::{
    http::{Answer, Client, Request},
    tls::TlsFiles,
};

/// How large one answer may be. A page of 1,000 instances with many tags and interfaces takes some 10 MB.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// The version of the EC2 API.
const EC2_VERSION: &str = "2016-11-15";
/// How `X-Amz-Target` of ECS begins.
const ECS_TARGET: &str = "AmazonEC2ContainerServiceV20141113";

/// Who calls AWS for one topology.
#[derive(Debug)]
pub(super) struct Caller {
    account: Account,
    client: Client,
    within: Duration,
    calls: AtomicU64,
}

impl Caller {
    /// A caller whose calls take no longer than `within` each.
    pub(super) fn new(account: Account, within: Duration) -> Self {
        // What all tools of AWS read.
        let ca = env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty()).map(PathBuf::from);
        let client = Client::new(TlsFiles { ca, ..TlsFiles::default() });
        Self { account, client, within, calls: AtomicU64::new(0) }
    }

    /// The region of the account.
    pub(super) async fn region(&self) -> Result<String, AwsError> {
        self.account.access().await?.region.ok_or(AwsError::NoRegion)
    }

    /// How many calls were made.
    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// As if a call was made.
    #[cfg(test)]
    pub(super) fn count(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls EC2 and gives the XML of its answer.
    pub(super) async fn ec2(
        &self,
        region: &str,
        action: &str,
        parameters: &[(String, String)],
    ) -> Result<Bytes, AwsError> {
        let mut body = format!("Action={action}&Version={EC2_VERSION}");
        for (name, value) in parameters {
            body.push('&');
            encode(&mut body, name);
            body.push('=');
            encode(&mut body, value);
        }
        let headers = [("content-type", "application/x-www-form-urlencoded; charset=utf-8".to_owned())];
        self.call(Service::Ec2, region, action, &headers, body).await
    }

    /// Calls ECS and gives the JSON of its answer.
    pub(super) async fn ecs(&self, region: &str, action: &str, request: &serde_json::Value) -> Result<Bytes, AwsError> {
        let headers = [
            ("content-type", "application/x-amz-json-1.1".to_owned()),
            ("x-amz-target", format!("{ECS_TARGET}.{action}")),
        ];
        self.call(Service::Ecs, region, action, &headers, request.to_string()).await
    }

    async fn call(
        &self,
        service: Service,
        region: &str,
        action: &str,
        headers: &[(&'static str, String)],
        body: String,
    ) -> Result<Bytes, AwsError> {
        let access = self.account.access().await?;
        let url = format!("{}/", access.endpoint(service, region)?);
        let now = SystemTime::now();
        let unsigned = Unsigned { service, region, url: &url, headers, body: &body };
        let signature = sign::headers(&unsigned, &access.credentials, now)?;
        let mut request = Request::post(&url, body.clone()).within(self.within).bytes_max(ANSWER_BYTES_MAX);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        for (name, value) in &signature {
            request = request.header(name, value);
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        let answer = self.client.send(request).await;
        let answer = answer.map_err(|error| AwsError::Http { error, region: region.to_owned() })?;
        if answer.status.is_success() {
            return Ok(answer.body);
        }
        let error = refused(service, region, action, &answer, now);
        if error.is_about_credentials() {
            self.account.forget().await;
        }
        Err(error)
    }
}

/// Sorts an answer that is none.
fn refused(service: Service, region: &str, action: &str, answer: &Answer, now: SystemTime) -> AwsError {
    let (code, message) = match service {
        Service::Ec2 => xml::fault(&answer.body),
        Service::Ecs => json_fault(answer),
    };
    let date = answer.header("date").and_then(parse_date);
    let status = answer.status.as_u16();
    Refusal { service, action, region, status, code: &code, message: &message, date, now }.sort()
}

/// The code and the text of an error of JSON 1.1: `{"__type": "prefix#Code", "message": "…"}`, or a header.
fn json_fault(answer: &Answer) -> (String, String) {
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let text = |key: &str| body.get(key).and_then(|it| it.as_str()).map(ToOwned::to_owned);
    let header = || answer.header("x-amzn-errortype").map(|it| it.split(':').next().unwrap_or(it).to_owned());
    let code = text("__type").or_else(|| text("code")).or_else(header).unwrap_or_default();
    let code = code.rsplit('#').next().unwrap_or_default().to_owned();
    (code, text("message").or_else(|| text("Message")).unwrap_or_default())
}

/// Reads `Tue, 14 Nov 2023 22:13:20 GMT` (RFC 9110, 5.6.7).
fn parse_date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|it| *it == month)? + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let time = words.next()?;
    humantime::parse_rfc3339(&format!("{year:04}-{month:02}-{day:02}T{time}Z")).ok()
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn encode(body: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            body.push(char::from(byte));
        } else {
            write!(body, "%{byte:02X}").expect("a String takes all that is written");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use aws_credential_types::{
        Credentials,
        provider::{ProvideCredentials, future},
    };
    use metacluster_testbed::{Said, Web};

    use super::*;

    /// A key that a test changes.
    type Key = Arc<Mutex<&'static str>>;

    fn now(key: &Key) -> &'static str {
        *key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[derive(Debug)]
    struct Rotated(Key);

    impl ProvideCredentials for Rotated {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let credentials = Credentials::new(now(&self.0), "secret", None, None, "a test");
            future::ProvideCredentials::ready(Ok(credentials))
        }
    }

    #[tokio::test]
    async fn a_key_that_was_rotated_is_taken_once_the_old_one_is_refused() {
        const REFUSED: &str =
            "<Response><Errors><Error><Code>AuthFailure</Code><Message>no</Message></Error></Errors></Response>";
        let key: Key = Arc::new(Mutex::new("AKIDOLD"));
        let web = {
            let key = Arc::clone(&key);
            Web::start(move |asked| {
                let taken = asked.headers["authorization"].contains(now(&key));
                if taken { Said::ok("<a/>") } else { Said::status(401, REFUSED) }
            })
        };
        let web = web.expect("a server");
        let account = Account::given(&web.url(), Rotated(Arc::clone(&key)));
        let caller = Caller::new(account, Duration::from_secs(5));
        let call = async || caller.ec2("eu-west-1", "DescribeInstances", &[]).await;
        call().await.expect("it is taken");
        *key.lock().unwrap_or_else(PoisonError::into_inner) = "AKIDNEW";
        let error = call().await.expect_err("the old one is refused");
        assert!(error.is_about_credentials(), "{error}");
        call().await.expect("the new one is taken");
    }

    #[test]
    fn the_date_of_an_answer_is_read() {
        let at = parse_date("Tue, 14 Nov 2023 22:13:20 GMT").expect("a date");
        assert_eq!(at, SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        for text in ["", "now", "Tue, 14 Now 2023 22:13:20 GMT", "Tue, 99 Nov 2023 22:13:20 GMT"] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }

    #[test]
    fn a_parameter_cannot_add_another() {
        let mut body = String::new();
        encode(&mut body, "a&Action=b ü*");
        assert_eq!(body, "a%26Action%3Db%20%C3%BC%2A");
    }
}
