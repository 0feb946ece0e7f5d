/** The server: its state, its clients, its slow commands, its settings. */
import type { ClientRow, ServerFacts, SlowRow } from '../../src/console/api-types.ts';
import { Action } from '../parts/actions/action.tsx';
import { Code } from '../parts/code.tsx';
import { Figures } from '../parts/figures/figures.tsx';
import { Page, Section, Tabs } from '../parts/page.tsx';
import { Missing, Notice, Show } from '../parts/states.tsx';
import { type Column, Table } from '../parts/table.tsx';
import { Time } from '../parts/time.tsx';
import { count, duration, visible } from '../state/format.ts';
import { useResource } from '../state/resource.ts';
import { place, queryOf, setQuery } from '../state/router.ts';
import { missing } from '../state/session.ts';

const PARTS = [
  { id: '', text: 'Facts' },
  { id: 'clients', text: 'Clients' },
  { id: 'slow', text: 'Slow commands' },
  { id: 'config', text: 'Settings' },
];

export function ServerPage() {
  const shown = queryOf('show');
  const why = missing('server');
  return (
    <Page
      title="Server"
      api={[shown === 'clients' ? '/clients' : shown === 'slow' ? '/slowlog' : '/server']}
      actions={
        <>
          <Action verb="server.config" target={{}} />
          <Action verb="server.acl" target={{}} />
        </>
      }
    >
      <Tabs
        tabs={PARTS.map(({ id, text }) => ({
          text,
          to: `${place.value.path}${id === '' ? '' : `?show=${id}`}`,
          is: id === shown,
        }))}
      />
      {shown === 'clients' ? (
        <Clients />
      ) : shown === 'slow' ? (
        <Slow />
      ) : why !== null ? (
        <Missing what="No facts of the server" why={why} />
      ) : (
        <Facts isConfig={shown === 'config'} />
      )}
    </Page>
  );
}

function Facts({ isConfig }: { isConfig: boolean }) {
  const server = useResource<ServerFacts>('/server', isConfig ? null : 'server');
  return (
    <Show of={server}>
      {(value) => (isConfig ? <Config of={value} /> : <Sections of={value} />)}
    </Show>
  );
}

function Sections({ of }: { of: ServerFacts }) {
  return (
    <>
      {(of.loopDelayMs !== null || of.syncMs !== null) && (
        <Figures
          large
          figures={[
            ...percentiles('Event loop late', of.loopDelayMs),
            ...percentiles('Disk sync', of.syncMs),
          ]}
        />
      )}
      <div class="flow">
        {of.sections.map(({ title, facts }) => (
          <Section key={title} title={title}>
            <dl class="pairs">
              {facts.map(([name, value]) => [
                <dt key={`${name} name`}>{visible(name)}</dt>,
                <dd key={`${name} value`}>{visible(value)}</dd>,
              ])}
            </dl>
          </Section>
        ))}
      </div>
    </>
  );
}

function percentiles(label: string, of: ServerFacts['syncMs']) {
  if (of === null) return [];
  return [
    { label: `${label}, median`, value: duration(of.p50) },
    { label: `${label}, slowest 1 %`, value: duration(of.p99) },
  ];
}

function Config({ of }: { of: ServerFacts }) {
  const q = queryOf('setting');
  const rows = of.config.filter(([name]) => name.includes(q));
  return (
    <div class="section">
      <div class="field">
        <label for="server-setting">Part of the name</label>
        <input
          id="server-setting"
          type="search"
          value={q}
          autocomplete="off"
          onInput={(event) => setQuery({ setting: event.currentTarget.value }, 'replace')}
        />
      </div>
      {rows.length === 0 ? (
        <Notice kind="empty" title="No such setting">
          <p>Settings have Redis's names.</p>
        </Notice>
      ) : (
        <Table
          caption="Settings"
          rows={rows}
          keyOf={([name]) => name}
          columns={[
            { title: 'Setting', isHead: true, cell: ([name]) => name },
            {
              title: 'Value',
              cell: ([, value]) =>
                value === '' ? <span class="muted">empty</span> : <code>{visible(value)}</code>,
            },
            {
              title: 'Actions',
              isActions: true,
              cell: ([name, value]) => (
                <div class="row-actions">
                  <Action
                    verb="server.config"
                    target={{}}
                    label="Change"
                    about={name}
                    initial={{ name, value }}
                    quiet
                  />
                </div>
              ),
            },
          ]}
        />
      )}
    </div>
  );
}

function Clients() {
  const why = missing('clients');
  const clients = useResource<readonly ClientRow[]>(why === null ? '/clients' : null);
  if (why !== null) return <Missing what="No list of clients" why={why} />;
  const columns: readonly Column<ClientRow>[] = [
    { title: 'Client', isHead: true, cell: ({ id }) => id },
    { title: 'Name', cell: ({ name }) => visible(name) || <span class="unknown">—</span> },
    { title: 'Address', cell: ({ address }) => <Code of={address} /> },
    { title: 'User', cell: ({ user }) => visible(user) },
    { title: 'Connected', isNumber: true, cell: ({ ageMs }) => `${duration(ageMs)} ago` },
    { title: 'Idle', isNumber: true, cell: ({ idleMs }) => duration(idleMs) },
    { title: 'Last command', cell: ({ command }) => <code>{visible(command)}</code> },
    {
      title: 'Actions',
      isActions: true,
      cell: ({ id, name }) => (
        <div class="row-actions">
          <Action
            verb="server.killClient"
            target={{ client: id }}
            about={name || id}
            quiet
            done={clients.reload}
          />
        </div>
      ),
    },
  ];
  return (
    <Show of={clients}>
      {(rows) =>
        rows.length === 0 ? (
          <Notice kind="empty" title="No client is connected">
            <p>Programs that use the server are shown here.</p>
          </Notice>
        ) : (
          <Table caption="Clients" rows={rows} keyOf={({ id }) => id} columns={columns} />
        )
      }
    </Show>
  );
}

function Slow() {
  const why = missing('slowlog');
  const slow = useResource<readonly SlowRow[]>(why === null ? '/slowlog' : null);
  if (why !== null) return <Missing what="No log of slow commands" why={why} />;
  const columns: readonly Column<SlowRow>[] = [
    { title: 'Number', isHead: true, cell: ({ id }) => id },
    { title: 'At', cell: ({ at }) => <Time at={at} /> },
    { title: 'Took', isNumber: true, cell: ({ micros }) => `${count(micros)} µs` },
    { title: 'Command', width: 'wide', cell: ({ command }) => <code>{visible(command)}</code> },
    { title: 'Client', cell: ({ client }) => visible(client) },
  ];
  return (
    <Show of={slow}>
      {(rows) =>
        rows.length === 0 ? (
          <Notice kind="empty" title="No slow command">
            <p>Commands above slowlog-log-slower-than are kept here.</p>
          </Notice>
        ) : (
          <Table caption="Slow commands" rows={rows} keyOf={({ id }) => id} columns={columns} />
        )
      }
    </Show>
  );
}
