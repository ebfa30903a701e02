#!/usr/bin/env escript
%% Reads lines of two terms in hexadecimal, one before and one after it was rewritten, and says how many second ones are
%% the first one with the nodes of even identifiers renamed, as `beam.rs` has them renamed.
%% -*- coding: utf-8 -*-
-mode(compile).

main([]) ->
    loop(0, 0, 0).

loop(Same, Refused, Line) ->
    case io:get_line("") of
        eof ->
            io:format("~b same ~b refused~n", [Same, Refused]);
        Text ->
            [Before, After] = [external(Hex) || Hex <- string:lexemes(Text, " \n")],
            case {read(Before), read(After)} of
                {{ok, One}, {ok, Two}} ->
                    case {walk(One, fun rename/2), walk(Two, fun(Node, _) -> Node end)} of
                        {Same_, Same_} -> loop(Same + 1, Refused, Line + 1);
                        {Wanted, Got} -> fail(Line, Wanted, Got)
                    end;
                {refused, refused} -> loop(Same, Refused + 1, Line + 1);
                {One, Two} -> fail(Line, One, Two)
            end
    end.

fail(Line, Wanted, Got) ->
    io:format("line ~b~nwanted ~tp~ngot ~tp~n", [Line, Wanted, Got]),
    halt(1).

external(Hex) -> <<131, (binary:decode_hex(list_to_binary(Hex)))/binary>>.

read(Bytes) ->
    try {ok, binary_to_term(Bytes)} catch error:badarg -> refused end.

rename(Node, Number) when Number rem 2 =:= 0 ->
    list_to_atom([16#416 | "far"] ++ [16#2192 | atom_to_list(Node)]);
rename(Node, _) ->
    Node.

%% What a term is made of, with other nodes: identifiers and closures as tuples, since they cannot be made by hand.
walk(Term, F) when is_pid(Term) ->
    <<131, 88, Rest/binary>> = bytes(Term),
    {Node, <<Id:32, Numbers/binary>>} = atom(Rest),
    {pid, F(Node, Id), Id, Numbers};
walk(Term, F) when is_port(Term) ->
    <<131, Tag, Rest/binary>> = bytes(Term),
    {Node, Numbers} = atom(Rest),
    Width = case Tag of 120 -> 64; 89 -> 32 end,
    <<Id:Width, Creation:32>> = Numbers,
    {port, F(Node, Id), Id, Creation};
walk(Term, F) when is_reference(Term) ->
    <<131, 90, Count:16, Rest/binary>> = bytes(Term),
    {Node, <<Creation:32, Id:32, Ids/binary>>} = atom(Rest),
    {reference, F(Node, Id), Count, Creation, Id, Ids};
walk(Term, F) when is_function(Term) ->
    Info = maps:from_list(erlang:fun_info(Term)),
    case Info of
        #{type := external} -> {export, Term};
        #{env := Env, pid := Pid} -> {'fun', maps:without([pid, env], Info), walk(Pid, F), [walk(T, F) || T <- Env]}
    end;
walk([Head | Tail], F) -> [walk(Head, F) | walk(Tail, F)];
walk(Term, F) when is_tuple(Term) -> {tuple, [walk(T, F) || T <- tuple_to_list(Term)]};
walk(Term, F) when is_map(Term) -> maps:from_list([{walk(K, F), walk(V, F)} || {K, V} <- maps:to_list(Term)]);
walk(Term, _) -> Term.

bytes(Term) -> term_to_binary(Term, [{minor_version, 2}]).

atom(<<119, Length, Text:Length/binary, Rest/binary>>) -> {binary_to_atom(Text), Rest};
atom(<<118, Length:16, Text:Length/binary, Rest/binary>>) -> {binary_to_atom(Text), Rest}.
