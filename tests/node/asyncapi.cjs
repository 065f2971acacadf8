// Validates an AsyncAPI document with the parser of its authors: prints each finding, and fails if there is an error.
'use strict';

const fs = require('node:fs');
const { Parser } = require('@asyncapi/parser');

async function main(file) {
  const { document, diagnostics } = await new Parser().parse(fs.readFileSync(file, 'utf8'), { source: file });
  for (const { severity, code, path, message } of diagnostics) {
    console.log(`${['error', 'warning', 'information', 'hint'][severity]} ${code} ${path.join('/')}: ${message}`);
  }
  if (document === undefined) {
    process.exitCode = 1;
    return;
  }
  console.log(`${document.operations().all().length} operations, ${document.messages().all().length} messages`);
}

main(process.argv[2]);
