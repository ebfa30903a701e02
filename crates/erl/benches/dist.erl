%% The BEAM's half of the bench: a process that counts what comes, one that answers, and senders that are timed.
-module(dist).
-export([start/0, run/4, ping/2]).

start() ->
    spawn(fun() -> register(sink, self()), sink() end),
    spawn(fun() -> register(echo, self()), echo() end),
    ok.

sink() ->
    receive
        {expect, Total, To} ->
            To ! {ready, self()},
            count(Total),
            To ! done,
            sink()
    end.

count(0) -> ok;
count(Left) -> receive Bytes when is_binary(Bytes) -> count(Left - 1) end.

echo() ->
    receive {From, Bytes} -> From ! Bytes, echo() end.

%% Microseconds for so many binaries of each sender to reach the sink of a node.
run(Node, Size, Each, Senders) ->
    Bytes = binary:copy(<<7>>, Size),
    {sink, Node} ! {expect, Each * Senders, self()},
    Sink = receive {ready, Pid} -> Pid end,
    Start = erlang:monotonic_time(microsecond),
    [spawn(fun() -> send(Sink, Bytes, Each) end) || _ <- lists:seq(1, Senders)],
    receive done -> erlang:monotonic_time(microsecond) - Start end.

send(_, _, 0) -> ok;
send(Sink, Bytes, Left) -> Sink ! Bytes, send(Sink, Bytes, Left - 1).

%% Microseconds for so many round trips of a few bytes.
ping(Node, Times) ->
    {echo, Node} ! {self(), <<"first">>},
    receive <<"first">> -> ok end,
    Start = erlang:monotonic_time(microsecond),
    trips(Node, Times),
    erlang:monotonic_time(microsecond) - Start.

trips(_, 0) -> ok;
trips(Node, Left) ->
    {echo, Node} ! {self(), <<"0123456789abcdef">>},
    receive Bytes when is_binary(Bytes) -> trips(Node, Left - 1) end.
