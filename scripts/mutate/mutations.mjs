/**
 * The places of a compiled module where one small change makes a different program, and the changes.
 *
 * They are found in the text that the compiler writes, whose spacing is regular, after comments and the
 * contents of strings were blanked out (test/house/source-file.ts).
 * Invariant: the same text gives the same mutations in the same order.
 */
import { parseSource } from '../../dist/test/house/source-file.js';

/** Operators and what each becomes. */
const OPERATORS = {
  '<': '<=',
  '<=': '<',
  '>': '>=',
  '>=': '>',
  '===': '!==',
  '!==': '===',
  '&&': '||',
  '||': '&&',
  '+': '-',
  '-': '+',
  '+=': '-=',
  '-=': '+=',
};

/** Each: { kind, from, to, text }: the text replaces [from, to). */
export function mutationsOf(path, source) {
  const { code } = parseSource(path, source);
  const found = [];
  for (const { 0: operator, index } of code.matchAll(
    /(?<= )(?:===|!==|<=|>=|&&|\|\||\+=|-=|<|>|\+|-)(?= )/g,
  )) {
    const other = OPERATORS[operator];
    found.push(change(`${operator} becomes ${other}`, index, operator.length, other));
  }
  // Not in an import's path, a name or a fraction.
  for (const { 0: digits, index } of code.matchAll(/(?<![\w.$#])\d+(?![\w.])/g)) {
    found.push(change('one more', index, digits.length, String(Number(digits) + 1)));
  }
  for (const { 0: word, index } of code.matchAll(/(?<![\w.$#])(?:true|false)(?!\w|:)/g)) {
    found.push(change(`${word} turned`, index, word.length, String(word !== 'true')));
  }
  for (const { index } of code.matchAll(/(?<![\w.$#])await /g)) {
    if (!/for\s$/.test(code.slice(0, index))) found.push(change('await removed', index, 6, ''));
  }
  for (const { index } of code.matchAll(/(?<![\w.$#])if \(/g)) {
    const open = index + 3;
    const close = closing(code, open);
    const condition = source.slice(open, close + 1);
    found.push(change('condition negated', open, close + 1 - open, `(!${condition})`));
  }
  for (const { 1: indent, 2: step, index } of code.matchAll(
    /(?<=[;{}]\n)( +)((?:await )?[\w$#.?!]+(?:\([^\n]*\)|\+\+|--);)(?=\n)/g,
  )) {
    // What ends a function, or calls the parent's constructor, is no separate step.
    if (/^(?:return|throw|super|break|continue)\b/.test(step)) continue;
    found.push(change('step removed', index + indent.length, step.length, ';'));
  }
  return found.sort((a, b) => a.from - b.from || a.to - b.to);
}

function change(kind, from, length, text) {
  return { kind, from, to: from + length, text };
}

/** Where the bracket that opens at `open` is closed. */
function closing(code, open) {
  let depth = 0;
  for (let at = open; at < code.length; at++) {
    if (code[at] === '(') depth++;
    else if (code[at] === ')' && --depth === 0) return at;
  }
  return code.length - 1;
}
