/**
 * `micro completion bash|zsh|fish`: a script that completes commands and options.
 *
 * Invariant: the words are those of the commands themselves, read when the script is made.
 */
import { Argument, Command } from 'commander';
import type { CommandRow } from '../command-row.ts';
import { withExamples } from '../examples.ts';
import { Output } from '../printing/output.ts';

/** Words that may follow a path of commands. */
type Words = ReadonlyMap<string, readonly string[]>;

export function completionCommand(rows: readonly CommandRow[]): Command {
  const command = new Command('completion')
    .description('print the script that completes commands in a shell')
    .addArgument(new Argument('<shell>').choices(['bash', 'zsh', 'fish']))
    .action((shell: string) => completion(shell, rows));
  return withExamples(command, [
    { line: 'micro completion bash', says: 'in ~/.bashrc: eval "$(micro completion bash)"' },
    {
      line: 'micro completion zsh',
      says: 'in ~/.zshrc, after compinit: eval "$(micro completion zsh)"',
    },
    {
      line: 'micro completion fish',
      says: 'into ~/.config/fish/completions/micro.fish',
    },
  ]);
}

async function completion(shell: string, rows: readonly CommandRow[]): Promise<void> {
  const make = { bash, zsh, fish }[shell as 'bash'];
  await new Output(false).line(make(await wordsOf(rows)));
}

async function wordsOf(rows: readonly CommandRow[]): Promise<Words> {
  const found = new Map<string, string[]>();
  found.set('', [...rows.map(({ name }) => name), 'help', 'version']);
  const add = (path: string, command: Command) => {
    const options = command.options.flatMap(({ long }) => (long === undefined ? [] : [long]));
    const values = command.registeredArguments.flatMap(({ argChoices = [] }) => argChoices);
    const names = command.commands.map((each) => each.name());
    found.set(path, [...names, ...values, ...options, '--help'].sort());
    for (const each of command.commands) add(`${path} ${each.name()}`, each);
  };
  for (const { name, load, options = [] } of rows) {
    if (load === undefined) found.set(name, [...options, '--help']);
    else add(name, await load());
  }
  found.set(
    'help',
    rows.map(({ name }) => name),
  );
  return found;
}

function cases(words: Words): string {
  return [...words].map(([path, list]) => `    '${path}') words='${list.join(' ')}' ;;`).join('\n');
}

/** The path of commands before the word that is completed: options do not count. */
const PATH = `  local path='' word
  for word in "\${before[@]}"; do
    case "$word" in -*) continue ;; esac
    path="\${path:+$path }$word"
  done`;

function bash(words: Words): string {
  return `# completion of micro for bash
_micro() {
  local before=("\${COMP_WORDS[@]:1:COMP_CWORD-1}") current="\${COMP_WORDS[COMP_CWORD]}"
${PATH}
  local words=''
  while :; do
    case "$path" in
${cases(words)}
    *) if [ "$path" != "\${path% *}" ]; then path="\${path% *}"; continue; fi ;;
    esac
    break
  done
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _micro micro`;
}

function zsh(words: Words): string {
  return `# completion of micro for zsh
_micro() {
  local -a before list
  before=("\${(@)words[2,CURRENT-1]}")
  local path_='' word found=''
  for word in $before; do
    case "$word" in -*) continue ;; esac
    path_="\${path_:+$path_ }$word"
  done
  while :; do
    case "$path_" in
${cases(words).replaceAll("words='", "found='")}
    *) if [[ "$path_" != "\${path_% *}" ]]; then path_="\${path_% *}"; continue; fi ;;
    esac
    break
  done
  list=(\${=found})
  compadd -- $list
}
compdef _micro micro`;
}

function fish(words: Words): string {
  const rows = [...words].map(
    ([path, list]) => `      case '${path}'\n        printf '%s\\n' ${list.join(' ')}`,
  );
  return `# completion of micro for fish
function __micro_words
  set -l path (string match -v -- '-*' (commandline -opc)[2..-1])
  while true
    switch "$path"
${rows.join('\n')}
      case '*'
        if test (count $path) -gt 1
          set path $path[1..-2]
          continue
        end
    end
    break
  end
end
complete -c micro -f -a '(__micro_words)'`;
}
