"""How linernotes knows that it is right: checks of attributions, and of the model they are made on."""
