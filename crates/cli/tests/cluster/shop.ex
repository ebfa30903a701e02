# An application as people write them: a supervisor, a scope of process groups, a server that joins a group, and a
# publish-subscribe worker that says over `pg` what Phoenix.PubSub does.

defmodule Shop.Orders do
  use GenServer

  def start_link(_), do: GenServer.start_link(__MODULE__, 0)

  @impl true
  def init(count) do
    :ok = :pg.join(Shop.Scope, Shop.Orders, self())
    {:ok, count}
  end

  @impl true
  def handle_call({:reserve, item}, _from, count), do: {:reply, {:reserved, item, count + 1}, count + 1}
  def handle_call(:crash, _from, _count), do: exit(:crashed)

  @impl true
  def handle_cast({:tell, pid, text}, count) do
    send(pid, {:told, text, count})
    {:noreply, count}
  end
end

defmodule Shop.PubSub do
  use GenServer

  def start_link(_), do: GenServer.start_link(__MODULE__, nil)
  def subscribe(topic), do: Registry.register(Shop.Subscribers, topic, nil)

  def broadcast(topic, message) do
    dispatch(topic, message)
    members = :pg.get_members(Phoenix.PubSub, Shop.PubSub.Adapter)
    for pid <- members -- :pg.get_local_members(Phoenix.PubSub, Shop.PubSub.Adapter) do
      send(pid, {:forward_to_local, topic, message, __MODULE__})
    end
    :ok
  end

  @impl true
  def init(nil) do
    :ok = :pg.join(Phoenix.PubSub, Shop.PubSub.Adapter, self())
    {:ok, nil}
  end

  @impl true
  def handle_info({:forward_to_local, topic, message, dispatcher}, state) do
    dispatcher.dispatch(topic, message)
    {:noreply, state}
  end

  def handle_info(_, state), do: {:noreply, state}

  def dispatch(topic, message) do
    Registry.dispatch(Shop.Subscribers, topic, fn entries -> for {pid, _} <- entries, do: send(pid, message) end)
  end
end

defmodule Shop.Application do
  use Supervisor

  def start_link(_), do: Supervisor.start_link(__MODULE__, nil, name: __MODULE__)

  @impl true
  def init(nil) do
    scope = fn name -> %{id: name, start: {:pg, :start_link, [name]}} end
    children = [scope.(Shop.Scope), scope.(Phoenix.PubSub), {Registry, keys: :duplicate, name: Shop.Subscribers}]
    Supervisor.init(children ++ [Shop.PubSub, Shop.Orders], strategy: :one_for_one)
  end
end
