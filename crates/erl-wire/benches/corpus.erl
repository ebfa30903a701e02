%% Prints corpus.txt: terms as real applications send them, one a line: name, and external form without version byte in
%% hexadecimal. The bench makes long messages by putting several of one in a list.
%%
%%   erlc corpus.erl && erl -noshell -name shop@10.0.0.4 -s corpus -s init stop > corpus.txt
-module(corpus).
-export([start/0]).

start() ->
    io:format("# From corpus.erl on OTP ~s (erts ~s).~n",
              [erlang:system_info(otp_release), erlang:system_info(version)]),
    rand:seed(exsss, {1, 2, 3}),
    Pids = [here(Id) || Id <- lists:seq(100, 119)] ++ [there(Id) || Id <- lists:seq(100, 119)],
    Pid = fun(N) -> lists:nth(1 + N rem 40, Pids) end,
    Ref = make_ref(),
    %% What goes before the payload: its control message.
    line("control_send_sender", {22, here(100), there(200)}),
    line("control_alias_send", {33, here(100), Ref}),
    %% A call, its reply, and a cast.
    line("gen_call", {'$gen_call', {here(100), [alias | Ref]}, {get, <<"user:1042">>}}),
    line("gen_reply", {[alias | Ref], {ok, <<"Ada">>, 36}}),
    line("gen_cast", {'$gen_cast', {put, <<"user:1042">>, 36}}),
    %% A broadcast of Phoenix with the fields of an order: a struct, texts as keys.
    line("broadcast",
         #{'__struct__' => 'Elixir.Phoenix.Socket.Broadcast', topic => <<"orders:eu-west">>, event => <<"created">>,
           payload => #{<<"order">> => order(1), <<"by">> => text(12)}}),
    %% What Phoenix.Tracker and pg send: pids with what is known of them.
    line("presences",
         {pub, heartbeat, {'Elixir.Shop.Tracker', 1},
          [{{<<"room:", (integer_to_binary(N rem 4))/binary>>, Pid(N), text(10)},
            #{phx_ref => text(8), online_at => 1700000000 + N}} || N <- lists:seq(1, 16)]}),
    line("pids", [Pid(N) || N <- lists:seq(0, 39)]),
    %% Rows as Mnesia and ETS have them.
    line("rows",
         [{order, N, N * 1000003, text(20), pick([new, paid, shipped]), Pid(N), N / 7, [a, {N, N + 1}], undefined}
          || N <- lists:seq(1, 24)]),
    %% A message of RabbitMQ, as a queue's leader hands it to another node.
    line("basic_message",
         {'$gen_cast',
          {deliver,
           {delivery, false, true, here(100),
            {basic_message, {resource, <<"/">>, exchange, <<"orders">>}, [<<"eu.created">>],
             {content, 60,
              {'P_basic', <<"application/json">>, undefined,
               [{<<"x-trace">>, longstr, text(32)}, {<<"x-try">>, signedint, 1}], 2, undefined, undefined, undefined,
               undefined, text(36), 1700000000, undefined, undefined, undefined, undefined},
              <<248, 16, 0, 16, (text(40))/binary>>, rabbit_framing_amqp_0_9_1, [text(900)]},
             text(16), true},
            17, flow}, true}}),
    line("document", lists:foldl(fun(N, Acc) -> Acc#{text(8) => order(N)} end, #{}, lists:seq(1, 4))),
    line("integers", [rand:uniform(1 bsl 27) || _ <- lists:seq(1, 100)]),
    line("mixed_numbers", [number(N) || N <- lists:seq(1, 100)]),
    X = order(9),
    line("closures", [fun(Y) -> {X, Y, Ref} end, fun(Y) -> Y + length(Pids) end, fun() -> fun lists:map/2 end]),
    line("binary", {data, here(100), binary:copy(<<"0123456789abcdef">>, 64)}).

here(Id) -> pid(node(), Id).

there(Id) -> pid('cart@10.0.0.5', Id).

pid(Node, Id) ->
    Name = atom_to_binary(Node),
    binary_to_term(<<131, 88, 119, (byte_size(Name)), Name/binary, Id:32, 0:32, 1700000000:32>>).

order(N) ->
    #{<<"id">> => N, <<"customer">> => text(24), <<"paid">> => N rem 2 =:= 0, <<"total">> => N * 1.25,
      <<"items">> => [#{<<"sku">> => text(10), <<"count">> => rand:uniform(9), <<"price">> => 100 + M * 399}
                      || M <- lists:seq(1, 5)],
      <<"note">> => nil, <<"tags">> => [<<"new">>, <<"eu">>]}.

number(N) ->
    case N rem 7 of
        0 -> N / 3;
        1 -> rand:uniform(255);
        2 -> 1 bsl 40 + N;
        3 -> pick([true, false, undefined]);
        4 -> {N, -N};
        5 -> text(3);
        6 -> rand:uniform(1 bsl 20)
    end.

pick(List) -> lists:nth(rand:uniform(length(List)), List).

text(Length) -> << <<($a + rand:uniform(26) - 1)>> || _ <- lists:seq(1, Length) >>.

line(Name, Term) ->
    <<131, Bytes/binary>> = term_to_binary(Term, [{minor_version, 2}]),
    io:format("~s ~s~n", [Name, [io_lib:format("~2.16.0b", [Byte]) || <<Byte>> <= Bytes]]).
