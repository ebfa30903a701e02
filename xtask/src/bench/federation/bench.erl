%% The BEAM's half of the bench: who answers and who counts on one side, who is timed on the other.
-module(bench).
-behaviour(gen_server).
-export([start/0, name/2, at/2, trips/2, stream/4]).
-export([await/2, came/0, crowd/2, watch/1, seen/1, join/1, leave/2]).
-export([init/1, handle_call/3, handle_cast/2]).

%% The answering and the counting process, also in groups of their own where there is `pg`.
start() ->
    {ok, Server} = gen_server:start({local, server}, ?MODULE, [], []),
    Sink = spawn(fun sink/0),
    register(sink, Sink),
    case whereis(pg) of
        undefined -> ok;
        _ -> ok = pg:join({bench, server}, Server), ok = pg:join({bench, sink}, Sink)
    end.

init(State) -> {ok, State}.
handle_call(Request, _, State) -> {reply, Request, State}.
handle_cast(_, State) -> {noreply, State}.

%% Keeps a name of another node at this host's epmd.
name(Name, Port) ->
    Asks = self(),
    Keeps = spawn(fun() ->
        {ok, Epmd} = gen_tcp:connect({127, 0, 0, 1}, 4369, [binary, {active, false}]),
        Length = byte_size(Name),
        ok = gen_tcp:send(Epmd, <<(13 + Length):16, 120, Port:16, 77, 0, 6:16, 5:16, Length:16, Name/binary, 0:16>>),
        {ok, <<_, 0, _/binary>>} = gen_tcp:recv(Epmd, 0),
        Asks ! {self(), kept},
        receive stop -> ok end end),
    receive {Keeps, kept} -> ok after 5000 -> exit(no_epmd) end.

%% That process of a node, or of another cluster.
at(far, Name) ->
    %% One of its own would be timed without any way between.
    case [Pid || Pid <- pg:get_members({bench, Name}), node(Pid) =/= node()] of [Pid | _] -> Pid; [] -> none end;
at(Node, Name) ->
    rpc:call(Node, erlang, whereis, [Name]).

%% Microseconds of so many calls, one after the other.
trips(Server, Times) ->
    0 = gen_server:call(Server, 0),
    Start = erlang:monotonic_time(microsecond),
    call(Server, Times),
    erlang:monotonic_time(microsecond) - Start.

call(_, 0) -> ok;
call(Server, Left) -> Left = gen_server:call(Server, Left), call(Server, Left - 1).

sink() ->
    receive
        {expect, Total, Step, From} ->
            From ! ready,
            count(Total, Step, Step, From),
            From ! done,
            sink()
    end.

count(0, _, _, _) -> ok;
count(Left, 0, Step, From) -> From ! {more, Step}, count(Left, Step, Step, From);
count(Left, ToGo, Step, From) -> receive Bytes when is_binary(Bytes) -> count(Left - 1, ToGo - 1, Step, From) end.

%% Microseconds for so many binaries of this size to arrive, of which so many are under way at most: a gateway, unlike a
%% node, drops what is sent faster than it is read.
stream(Sink, Size, Count, Window) ->
    Sink ! {expect, Count, Window div 4, self()},
    receive ready -> ok end,
    Start = erlang:monotonic_time(microsecond),
    send(Sink, binary:copy(<<7>>, Size), Count, Window),
    done(),
    erlang:monotonic_time(microsecond) - Start.

send(_, _, 0, _) -> ok;
send(Sink, Bytes, Left, 0) -> receive {more, Step} -> send(Sink, Bytes, Left, Step) end;
send(Sink, Bytes, Left, Window) -> Sink ! Bytes, send(Sink, Bytes, Left - 1, Window - 1).

done() -> receive done -> ok; {more, _} -> done() end.

%% Notes when so many members of the groups `<<"many", _>>` have come.
await(Count, Within) ->
    Asks = self(),
    Waits = spawn(fun() ->
        register(awaits, self()),
        {Ref, _} = pg:monitor_scope(pg),
        Asks ! {self(), waits},
        members(Ref, Count, Within),
        At = os:system_time(microsecond),
        receive {came, To} -> To ! {came, At} end end),
    receive {Waits, waits} -> ok end.

members(_, Left, _) when Left =< 0 -> ok;
members(Ref, Left, Within) ->
    receive {Ref, join, <<"many", _/binary>>, Pids} -> members(Ref, Left - length(Pids), Within)
    after Within -> exit({missing, Left}) end.

came() ->
    awaits ! {came, self()},
    receive {came, At} -> At end.

%% So many groups with so many processes each; when the first joined.
crowd(Groups, Each) ->
    Hold = fun() -> receive stop -> ok end end,
    Pids = [{Group, [spawn(Hold) || _ <- lists:seq(1, Each)]} || Group <- lists:seq(1, Groups)],
    At = os:system_time(microsecond),
    [ok = pg:join(<<"many ", (integer_to_binary(Group))/binary>>, Members) || {Group, Members} <- Pids],
    At.

%% Notes when the members of a group come and go.
watch(Group) ->
    Asks = self(),
    Watches = spawn(fun() ->
        register(watches, self()),
        {Ref, []} = pg:monitor(pg, Group),
        Asks ! {self(), watches},
        note(Ref) end),
    receive {Watches, watches} -> ok end.

note(Ref) ->
    receive {Ref, What, _, _} ->
        At = os:system_time(microsecond),
        receive {seen, What, To} -> To ! {seen, At} end
    end,
    note(Ref).

seen(What) ->
    watches ! {seen, What, self()},
    receive {seen, At} -> At after 10000 -> exit(unseen) end.

join(Group) ->
    Pid = spawn(fun() -> receive stop -> ok end end),
    At = os:system_time(microsecond),
    ok = pg:join(Group, Pid),
    register(joined, Pid),
    At.

%% It leaves, or it ends.
leave(Group, How) ->
    Pid = whereis(joined),
    At = os:system_time(microsecond),
    case How of leaves -> ok = pg:leave(Group, Pid), unregister(joined), exit(Pid, kill); ends -> exit(Pid, kill) end,
    At.
