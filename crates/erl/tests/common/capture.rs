//! A relay that records what crosses it as packets of TCP, in the file format that every analyser reads (pcap).

use std::{
    fs::File,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// The payload of a packet, whose length has 16 bits.
const SEGMENT_BYTES_MAX: usize = 60_000;
/// The port that stands for the listening side in the file.
pub(crate) const PORT: u16 = 25_672;

/// The file, and how far each direction has come.
struct Recording {
    file: File,
    sent: [u32; 2],
    /// How many messages of the handshake each side has still to say.
    handshake: [usize; 2],
}

impl Recording {
    fn new(path: &Path) -> Self {
        let mut file = File::create(path).expect("a file");
        // Magic, version 2.4, no zone, no accuracy, packets of any length, raw IP.
        let words = [0xa1b2_c3d4_u32, 0x0002_0004, 0, 0, 0x0004_0000, 101];
        words.iter().for_each(|word| file.write_all(&word.to_be_bytes()).expect("written"));
        let mut recording = Self { file, sent: [0; 2], handshake: [2, 3] };
        recording.packet(0, 0x02, &[]);
        recording.packet(1, 0x12, &[]);
        recording
    }

    /// What came in one read. Each message of the handshake becomes a packet of its own, as a node writes it: the relay may
    /// have read two at once, and the analyser takes a packet for one message while the handshake lasts.
    fn data(&mut self, side: usize, mut data: &[u8]) {
        while let Some(length) = data.first_chunk().filter(|_| self.handshake[side] > 0) {
            let (message, rest) = data.split_at(2 + usize::from(u16::from_be_bytes(*length)));
            self.packet(side, 0x18, message);
            self.handshake[side] -= 1;
            data = rest;
        }
        if !data.is_empty() {
            self.packet(side, 0x18, data);
        }
    }

    /// A packet of the one who dialled (0) or of the other (1).
    fn packet(&mut self, side: usize, flags: u8, data: &[u8]) {
        let ports = [40_000, PORT];
        let mut tcp = Vec::new();
        tcp.extend([ports[side], ports[1 - side]].iter().flat_map(|port: &u16| port.to_be_bytes()));
        tcp.extend([self.sent[side], self.sent[1 - side]].iter().flat_map(|number| number.to_be_bytes()));
        // No options; a checksum that nobody checks.
        tcp.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        let length = u16::try_from(40 + data.len()).expect("segments are short").to_be_bytes();
        let ip = [[0x45, 0, length[0], length[1]], [0; 4], [64, 6, 0, 0]].concat();
        let packet = [&ip[..], &[127, 0, 0, 1, 127, 0, 0, 1], &tcp, data].concat();
        let size = u32::try_from(packet.len()).expect("short").to_be_bytes();
        self.file.write_all(&[&[0; 8][..], &size, &size, &packet].concat()).expect("written");
        let counts = u32::from(flags & 0x02 != 0) + u32::try_from(data.len()).expect("short");
        self.sent[side] = self.sent[side].wrapping_add(counts);
    }
}

/// Relays one connection to `to` and records it. Gives where it listens.
pub(crate) async fn record(to: SocketAddr, path: &Path) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let recording = Arc::new(Mutex::new(Recording::new(path)));
    tokio::spawn(async move {
        let (dialler, _) = listener.accept().await.expect("a connection");
        let (from_dialler, to_dialler) = dialler.into_split();
        let (from_other, to_other) = TcpStream::connect(to).await.expect("it listens").into_split();
        tokio::join!(
            relay(0, from_dialler, to_other, Arc::clone(&recording)),
            relay(1, from_other, to_dialler, recording)
        );
    });
    address
}

async fn relay(side: usize, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, recording: Arc<Mutex<Recording>>) {
    let mut buffer = vec![0; SEGMENT_BYTES_MAX];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        recording.lock().expect("no panic").data(side, &buffer[..count]);
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
